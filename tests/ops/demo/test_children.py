"""The demo's processes: those that die are noticed with the end of their log, and all are ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.demo.children import Child, ChildDied, Children
from ops.demo.tasks import beside

WORKS = "import time; print('works', flush=True); time.sleep(60)"
FAILS = "import sys; print('first line'); print('no disk', file=sys.stderr); sys.exit(3)"
SAYS = "import os; print(os.environ['X'])"
DEAF = "import signal, time; signal.signal(15, lambda *_: None); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in (("works", WORKS), ("fails", FAILS), ("deaf", DEAF), ("says", SAYS)):
        (tmp_path / f"child_{name}.py").write_text(code)
    (tmp_path / "logs").mkdir()
    return Children(tmp_path / "logs", {"PYTHONPATH": str(tmp_path), "X": "told"})


async def until_it_says(child: Child, word: str) -> None:
    async with asyncio.timeout(20):
        while word not in child.log.read_text():
            await asyncio.sleep(0.02)


async def test_one_that_ends_in_order(children: Children) -> None:
    child = children.start("says", "child_says")
    await children.finish(child)
    assert child.log_tail() == "told"


async def test_one_that_dies_is_noticed_with_its_last_words(children: Children) -> None:
    children.start("steady", "child_works")
    children.start("worker", "child_fails")
    with pytest.raises(ChildDied, match=r"worker ended with status 3.*\n(.*\n)*no disk") as caught:
        async with asyncio.timeout(20):
            await beside(asyncio.sleep(60), children.watch())
    assert "worker.log" in caught.value.next_step
    children.stop()


async def test_one_that_should_finish_and_fails(children: Children) -> None:
    with pytest.raises(ChildDied, match="status 3"):
        await children.finish(children.start("training", "child_fails"))


async def test_all_are_ended_also_the_deaf(children: Children) -> None:
    steady, deaf = children.start("steady", "child_works"), children.start("deaf", "child_deaf")
    await until_it_says(steady, "works")
    await until_it_says(deaf, "deaf")
    children.stop(timeout_s=0.5)
    assert (steady.process.returncode, deaf.process.returncode) == (-15, -9)
    assert steady.guard.returncode is not None
    children.stop()  # again, for nothing


async def test_one_that_is_no_longer_waited_for_is_ended(children: Children) -> None:
    child = children.start("training", "child_works")
    await until_it_says(child, "works")
    finishing = asyncio.create_task(children.finish(child))
    await asyncio.sleep(0)
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)
    assert child.process.returncode is not None
