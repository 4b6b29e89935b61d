"""`python -m chimera.replay`: one process of a load (`chimera.replay.builds_load`), started by whoever carries a build out."""

import gc

if __name__ == "__main__":
    # What importing makes stays for good: looking at it for garbage meanwhile is a sixth of the start.
    gc.disable()
    from chimera.replay.builds_load import run

    run()
