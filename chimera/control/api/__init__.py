"""The JSON API (`/api/v1`): what the pages show and do, for programs that show a token.

In come requests that `chimera.control.routes` let through; out go models of `models`, or problems. It reads read models and asks
the command service, like the pages, and reads no cookie.
"""
