"""Play the demo's story while product processes die at random moments; the final balances must not change.

`python -m tests.e2e.chaos [--seed N]` prints its seed first; the same seed chooses the same victims and pauses again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
from pathlib import Path

from devnet.processes import StackError
from devnet.stack import PRODUCT, Options, Stack
from devnet.story.client import StoryError
from devnet.story.play import play


async def disturb(stack: Stack, seed: int, done: asyncio.Event) -> list[str]:
    """Kill one product process after another with SIGKILL and start it again, until the story is over. Returns the victims."""
    chance = random.Random(seed)
    victims: list[str] = []
    while not done.is_set():
        await asyncio.sleep(chance.uniform(0.3, 3.0))
        victim = chance.choice(PRODUCT)
        print(f"kill -9 {victim}", flush=True)
        victims.append(victim)
        stack.kill(victim)
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        await asyncio.to_thread(stack.start, victim)
    return victims


async def play_disturbed(stack: Stack, seed: int) -> list[str]:
    """The story and its disturbance side by side. Raises StoryError when the story does not end as it must."""
    done = asyncio.Event()
    disturbance = asyncio.create_task(disturb(stack, seed, done))
    try:
        await play(stack.endpoints, stack.places.state, print)
    finally:
        done.set()
        victims = await disturbance
    return victims


def run(seed: int) -> int:
    """0 when the books end as if nothing had happened."""
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="custody-chaos-") as folder:
        # The stack's processes run as other users; they must be able to reach the folder.
        Path(folder).chmod(0o755)
        stack = Stack(Path(folder) / "state", Options(), print)
        try:
            stack.up()
            victims = asyncio.run(play_disturbed(stack, seed))
        except (StackError, StoryError) as error:
            print(f"seed {seed} failed: {error}", file=sys.stderr)
            for log in sorted(stack.places.logs.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            return 1
        finally:
            stack.stop()
    print(f"{len(victims)} processes killed; the balances are what they must be")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    sys.exit(run(parser.parse_args().seed))
