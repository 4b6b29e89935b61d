"""The ways in: pure decisions, one file per family, and the command service that folds, decides, signs, appends, answers.

What enters: a person's wish and the folded state. What leaves: signed records on `chimera.log`, and the law's answer to each.
The rule not to break: a decision reads the state and returns records; it neither reads a clock nor touches a server. The
law decides in the end: a decision refuses early only what the law would not let count, so that people get a sentence.
"""
