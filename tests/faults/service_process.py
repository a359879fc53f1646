"""A service that is nothing but a batcher: reads chains from its input, writes outcomes to its output. Made to be killed.

Run as `python -m tests.faults.service_process DSN`.
"""

from __future__ import annotations

import asyncio
import pickle
import sys

from custody.kernel.ids import TenantId
from custody.ledger.model import Command
from tests.faults.doors import BatchDoor, framed, running


async def serve(dsn: str) -> None:
    """Answer until the input ends."""
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    door = BatchDoor(dsn)

    async def answer(number: int, tenant: TenantId, chain: tuple[Command, ...]) -> None:
        outcomes = await door.submit(tenant, chain)
        sys.stdout.buffer.write(framed((number, outcomes)))
        sys.stdout.buffer.flush()

    async with running(door), asyncio.TaskGroup() as group:
        while len(header := await reader.read(4)) == 4:
            message = pickle.loads(await reader.readexactly(int.from_bytes(header, "big")))
            group.create_task(answer(*message))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
