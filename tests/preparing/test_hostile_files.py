"""Trust: no file takes the run down, reaches a file or an address, or learns a key."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tasks.errors import ImageError
from tasks.preparing import prepare_image
from tasks.preparing.pool import MEMORY_BYTES
from tasks.types import ImageRules
from tests.golden import CORNERS, SIZE, golden_files, saved, target
from tests.image_writers import png

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784)
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="96" height="64">{}</svg>'
)


def use_bomb() -> bytes:
    """A drawing of a hundred million rectangles in a kilobyte: seconds of work for the decoder."""
    groups = "".join(f'<g id="u{n}">' + f'<use xlink:href="#u{n - 1}"/>' * 10 + "</g>" for n in range(1, 9))
    rectangle = '<rect id="u0" width="1" height="1"/>'
    return DRAWING.format(f'<defs>{rectangle}{groups}</defs><use xlink:href="#u8"/>').encode()


def code_of(data: bytes, rules: ImageRules) -> str:
    with pytest.raises(ImageError) as caught:
        prepare_image(data, rules)
    return caught.value.code


def test_a_decoder_that_hangs_costs_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.preparing.pool.OWN_SHARE", 0.0)  # however busy the machine is with other things
    started = time.monotonic()
    assert code_of(use_bomb(), replace(OCR, seconds=0.5)) == "too_slow"
    assert time.monotonic() - started < 30, "less than a file has by itself"
    assert prepare_image(golden_files()["drawing.svg"].data, OCR)[0].width == SIZE[0]


def test_the_time_that_a_machine_lacked_is_not_the_files_fault() -> None:
    """The decoder is stopped by a signal while it works: the clock runs out, and no processor was at work."""
    done = threading.Event()

    def stop_busy_children() -> None:
        while not done.wait(0.05):
            for pid in children():
                if processor_time(pid) > 1 and busy(pid):  # a starting one computes too
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)

    prepare_image(golden_files()["drawing.svg"].data, OCR)
    stopper = threading.Thread(target=stop_busy_children)
    stopper.start()
    try:
        assert code_of(use_bomb(), replace(OCR, seconds=6)) == "interrupted"
    finally:
        done.set()
        stopper.join()


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGSEGV, "unsafe"), (signal.SIGKILL, "interrupted")])
def test_a_decoder_that_crashes_costs_one_image(ending: signal.Signals, code: str) -> None:
    """The child dies, again and again, while it works, as by a decoder's fault or for want of memory."""
    done = threading.Event()

    def kill_busy_children() -> None:
        while not done.wait(0.05):
            for pid in children():
                if processor_time(pid) > 1 and busy(pid):  # a starting one computes too
                    with suppress(ProcessLookupError):
                        os.kill(pid, ending)

    killer = threading.Thread(target=kill_busy_children)
    killer.start()
    try:
        assert code_of(use_bomb(), OCR) == code
    finally:
        done.set()
        killer.join()
    assert prepare_image(golden_files()["drawing.svg"].data, OCR)[0].width == SIZE[0]


def test_memory_has_a_limit() -> None:
    """Five gigabytes of pixels promised by a few hundred bytes, where the user has raised the limit on pixels."""
    promise = png(36_000, 36_000, [b""], depth=8)
    assert code_of(promise, replace(OCR, max_pixels=10**10)) == "too_large"
    assert prepare_image(golden_files()["picture.bmp"].data, OCR)[0].width == SIZE[0]


def test_many_threads_share_as_many_decoders_as_there_are_cores() -> None:
    names = ["turned-6.jpg", "cmyk.tif", "burst.heic", "cut-short.bmp", "picture.jp2", "drawing.svg", "transparent.png"]

    def outcome(name: str) -> str:
        try:
            return prepare_image(golden_files()[name].data, OCR)[0].sha256
        except ImageError as error:
            return error.code

    expected = [outcome(name) for name in names]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(outcome, names * 20)) == expected * 20
    assert 1 <= len(children()) <= len(os.sched_getaffinity(0))


def test_no_decoder_outlives_a_parent_killed_without_warning() -> None:
    script = (
        "import sys; from dataclasses import replace\n"
        "from tests.preparing.test_hostile_files import *\n"
        "prepare_image(golden_files()['drawing.svg'].data, OCR)\n"
        "print(*children(), flush=True)\n"
        "prepare_image(use_bomb(), OCR)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        decoders = [int(pid) for pid in parent.stdout.readline().split()]
        assert decoders
        eventually(lambda: any(map(busy, decoders)))
        parent.kill()
    eventually(lambda: not any(map(alive, decoders)))


def test_a_drawing_reaches_no_file_and_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red squares wait in a file and behind a listener; none is drawn, and the listener is never called."""
    (tmp_path / "red.png").write_bytes(saved(Image.new("RGB", SIZE, (255, 0, 0)), "PNG"))
    (tmp_path / "red.css").write_text("rect { fill: red }")
    (tmp_path / "red.svg").write_text(DRAWING.format('<rect id="r" width="96" height="64" fill="red"/>'))
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        web = f"http://127.0.0.1:{listener.getsockname()[1]}/red"
        places = ["red", "./red", f"{tmp_path}/red", f"file://{tmp_path}/red", web]
        for place in places:
            image = f'<image href="{place}.png" width="96" height="64"/><image xlink:href="{place}.png" width="96"/>'
            style = f'<style>@import url("{place}.css");</style><rect width="96" height="64" fill="white"/>'
            use = f'<use href="{place}.svg#r"/><rect width="96" height="64" style="fill:url({place}.svg#r) none"/>'
            include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{place}.svg"/>'
            sheet = f'<?xml-stylesheet type="text/css" href="{place}.css"?>'
            for drawing in (image, style, use, include):
                (page,) = prepare_image((sheet + DRAWING.format(drawing)).encode(), OCR)
                colours = Image.open(io.BytesIO(page.data)).convert("RGB").getcolors()
                assert colours == [(SIZE[0] * SIZE[1], (255, 255, 255))], drawing
        with pytest.raises(TimeoutError):
            listener.accept()


def test_an_image_inside_a_drawing_is_drawn() -> None:
    """The counterpart of the test above: what is white there is not white because images never show."""
    embedded = b64encode(saved(target(), "PNG")).decode()
    drawing = DRAWING.format(f'<image href="data:image/png;base64,{embedded}" width="96" height="64"/>')
    (page,) = prepare_image(drawing.encode(), OCR)
    assert Image.open(io.BytesIO(page.data)).convert("RGB").getpixel((10, 10)) == CORNERS[0]
    assert page.note is None


def test_a_decoder_knows_no_key_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    code_of(use_bomb(), replace(OCR, seconds=0.2))  # so that the next decoder starts in this environment
    prepare_image(golden_files()["drawing.svg"].data, OCR)
    prepare_image(golden_files()["one-bit-fax.tif"].data, OCR)
    assert children()
    for pid in children():
        assert b"secret-key" not in Path(f"/proc/{pid}/environ").read_bytes()
        limits = [line.split()[:4] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()]
        assert ["Max", "file", "size", "0"] in limits
        assert ["Max", "address", "space", str(MEMORY_BYTES)] in limits
    assert list(tmp_path.iterdir()) == []


def children() -> list[int]:
    """The decoders of this process."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"tasks.preparing.worker" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Of a process that may have ended meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def busy(pid: int) -> bool:
    """Whether a decoder computes, which an idle one does not, however little the machine leaves it."""
    before = processor_time(pid)
    time.sleep(0.1)
    return processor_time(pid) > before


def processor_time(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
