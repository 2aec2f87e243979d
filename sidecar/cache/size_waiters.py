"""Checks that wait for the log to reach a size."""

import asyncio


class SizeWaiters:
    """Who waits for which size."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], int] = {}

    async def wait(self, size: int, timeout_seconds: float) -> bool:
        """Wait until `announce` names at least `size`; False when the time is up."""
        reached = asyncio.get_running_loop().create_future()
        self._waiters[reached] = size
        try:
            async with asyncio.timeout(timeout_seconds):
                await reached
        except TimeoutError:
            return False
        finally:
            del self._waiters[reached]
        return True

    def announce(self, size: int) -> None:
        """Wake everybody who waits for `size` or less."""
        for reached, wanted in self._waiters.items():
            if wanted <= size and not reached.done():
                reached.set_result(None)
