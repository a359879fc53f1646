"""How commands that need the running platform end when a part of it is away: by one sentence, never by a stack trace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from custody.kernel.errors import CustodyError

FAILED = 2
"""Exit code of a command that could not do its work; 1 means that it worked and found something wrong."""


def run_on_platform(step: Coroutine[Any, Any, int], command: str) -> int:
    """Run the step; its exit code, or FAILED after one sentence on standard error that holds no address with a password."""
    try:
        return asyncio.run(step)
    except CustodyError as error:
        reason = str(error)
    except OSError as error:
        reason = f"the database or another part of the platform does not answer ({error.strerror or error})"
    except DBAPIError as error:
        # The driver's own words; SQLAlchemy's would add the statement with its parameters.
        reason = f"the database refuses ({error.orig})"
    except SQLAlchemyError as error:
        reason = f"the database does not answer ({type(error).__name__})"
    print(f"custody {command}: {reason}", file=sys.stderr)
    return FAILED
