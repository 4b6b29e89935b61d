"""Media: pictures and films, kept by what they are (SHA-256). Bytes come in by the gate and leave to whoever names their hash.

The rule not to break: what stands under a hash has that hash; nothing here knows agents, records or servers.
"""
