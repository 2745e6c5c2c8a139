"""Takes the pictures of pages that the documents show, in a real browser.

`page` is that of a replica before, while and after replicas are killed; `bench` and `chaos` are the reports that
`epaxos bench --html` and `tools/chaos --html` write. Needs Chromium. Ends with status 1 if a page complains, or does
not say what it should.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

from PIL import Image

from epaxos.errors import ClientError
from epaxos.testing import LocalCluster
from shared.browser import Browser, find_browser

PICTURES: Final = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDE: Final = (1180, 800)
PHONE: Final = (390, 844)
REPORT: Final = (1000, 1120)
"""Of a report its beginning is shown."""

_COLOURS: Final = 192
_PAUSE: Final = 0.004  # seconds between two commands of a client
_SEED: Final = 7


def load(cluster: LocalCluster, name: str, stop: threading.Event) -> None:
    """Ask a replica for something now and then, whatever comes of it."""
    random = Random(_SEED)  # noqa: S311 - only a load
    with cluster.client(name, timeout=1.0) as client:
        while not stop.wait(_PAUSE * random.uniform(0.2, 1.8)):
            key = b"order:%d" % random.randrange(5000 if random.random() < 0.5 else 1)
            with suppress(ClientError):
                client.put(key, b"x" * random.randrange(20, 400)) if random.random() < 0.7 else client.get(
                    key
                )


class Photographer:
    """Keeps pictures of the page of one replica, as small files."""

    def __init__(self, browser: Browser, url: str, into: Path) -> None:
        self._browser = browser
        self._url = url
        self._into = into

    def take(self, name: str, headline: str, size: tuple[int, int] = WIDE, *, dark: bool = False) -> None:
        """A picture once the page says this."""
        browser = self._browser
        browser.look_like(*size, dark=dark, phone=size == PHONE)
        browser.open(self._url)
        said = "document.getElementById('headline').textContent"
        browser.wait_for(f"{said}.startsWith({headline!r}) && last.opened > 2", 60)
        keep(Image.open(io.BytesIO(browser.picture())), self._into / f"{name}.png")


def keep(image: Image.Image, path: Path) -> None:
    """Write a picture as a small file."""
    image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB\n")


def take_report(browser: Browser, page: Path, into: Path) -> None:
    """A picture of the beginning of a page that stands in a file."""
    browser.look_like(*REPORT)
    browser.open(page.as_uri())
    keep(Image.open(io.BytesIO(browser.picture())).crop((0, 0, *REPORT)), into / f"{page.stem}.png")


def run_bench(browser: Browser, into: Path, seconds: float) -> None:
    """Load a cluster, and take a picture of the report."""
    with LocalCluster(durable=True, name="shop") as cluster, tempfile.TemporaryDirectory() as directory:
        page, load = Path(directory) / "bench.html", ["--duration", f"{seconds / 2:g}s", "--rate", "5000"]
        command = [sys.executable, "-m", "epaxos", "bench", "-c", cluster.config.source]
        subprocess.run([*command, *load, "--conflicts", "5", "--html", page], check=True)
        take_report(browser, page, into)


def run_chaos(browser: Browser, into: Path, seconds: float) -> None:
    """Have tools/chaos do its worst, and take a picture of the report."""
    with tempfile.TemporaryDirectory() as directory:
        page, faults = Path(directory) / "chaos.html", ["--faults", "pause,cut,delay,kill"]
        command = [
            sys.executable,
            str(Path(__file__).with_name("run.py")),
            "chaos",
            *faults,
            "--interval",
            "3s",
        ]
        subprocess.run(
            [*command, "--duration", f"{seconds:g}s", "--seed", str(_SEED), "--html", page], check=True
        )
        take_report(browser, page, into)


def run_page(browser: Browser, into: Path, seconds: float) -> None:
    """Take pictures of a replica's page while its cluster loses replicas."""
    stop = threading.Event()
    with LocalCluster(durable=True, name="orders", http={"api": "read"}) as cluster:
        loads = [threading.Thread(target=load, args=(cluster, name, stop)) for name in cluster.names]
        for one in loads:
            one.start()
        url = f"http://127.0.0.1:{cluster.config.replica('alpha').metrics_port}/"
        photographer = Photographer(browser, url, into)
        try:
            _pictures(cluster, photographer, lambda share: time.sleep(seconds * share))
        finally:
            stop.set()
            for one in loads:
                one.join()


def _pictures(cluster: LocalCluster, photographer: Photographer, rest: Callable[[float], None]) -> None:
    rest(1.0)
    photographer.take("page-before", "All is well")
    cluster.kill("charlie")
    rest(0.5)
    photographer.take("page-during", "It serves, with 2 of 3")
    cluster.kill("bravo")
    rest(0.2)
    photographer.take("page-no-quorum", "This replica does not serve", dark=True)
    cluster.start("bravo")
    cluster.start("charlie")
    cluster.wait_until_ready()
    rest(0.5)
    photographer.take("page-after", "All is well")
    photographer.take("page-phone", "All is well", PHONE)


SUBJECTS: Final = {"page": run_page, "bench": run_bench, "chaos": run_chaos}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tools/pictures", description=__doc__)
    parser.add_argument(
        "what", nargs="*", choices=list(SUBJECTS), metavar="WHAT", help="page, bench, chaos  [all]"
    )
    parser.add_argument("--into", type=Path, default=PICTURES, help="where the pictures go  [docs/pictures]")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, about  [60]")
    given = parser.parse_args(arguments)
    given.into.mkdir(parents=True, exist_ok=True)
    program = find_browser()
    if program is None:
        parser.exit(2, "tools/pictures: no Chromium is installed: apt-get install chromium\n")
    with Browser(program) as browser:
        for what in given.what or SUBJECTS:
            SUBJECTS[what](browser, given.into, given.seconds)
        for error in browser.errors:
            sys.stderr.write(f"a page complains: {error}\n")
        return 1 if browser.errors else 0


if __name__ == "__main__":
    sys.exit(main())
