"""A server from its start to its end: checkpoints checked and opened, the ledger settled, requests answered, the stop.

Ctrl-C or SIGTERM: no more requests are taken, running ones may end for `grace` seconds, the rest is interrupted and
charged as far as it went. A second signal ends the process at once.
"""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import uvicorn

from common.errors import UserError
from eval.check import check
from model.inference import PRECISIONS, pack
from server.app import make_app
from server.connection import Connection
from server.guard import Guard
from server.keys import any_keys
from server.ledger import LEDGER, Ledger, owned
from server.prices import read_prices
from server.service import Served, Service
from server.worker import Worker
from training import distributed
from training.checkpoint import load_to_ask

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
CONNECTIONS = 1024  # at most; more are told 503


@dataclass
class ServeOptions:
    """Where and how much.

    Args:
        host: address to listen on; other machines reach 0.0.0.0 or ::
        port: 0 takes a free one
        rows: answers that a checkpoint generates together; each takes memory for a whole context
        queue: answers that may wait for a row; more are told to come again
        max_tokens: longest answer; none: what the context holds
        max_bytes: largest body of a request
        ledger: file of keys and usage
        prices: TOML table of what tokens cost; docs/serving.md
        allow_hosts: names that requests may be sent to, beside this machine's own, as ["loam.example.org"]
        quick: leave loss and answers out of the check of a checkpoint
        force: serve checkpoints that fail the check
        without_keys: let other machines in although there are no keys
        grace: seconds that running answers have to end when the server stops
        log: a line a request, without its text
        device: auto, cpu, cuda or mps
        precision: of the weights: stored, fp32 or bf16
    """

    host: str = "127.0.0.1"
    port: int = 8000
    rows: int = 8
    queue: int = 64
    max_tokens: int | None = None
    max_bytes: int = 1 << 20
    ledger: str = LEDGER
    prices: str | None = None
    allow_hosts: list[str] = field(default_factory=list)
    quick: bool = False
    force: bool = False
    without_keys: bool = False
    grace: float = 30.0
    log: bool = True
    device: str = "auto"
    precision: str = "stored"

    def __post_init__(self) -> None:
        least = {"port": 0, "rows": 1, "queue": 1, "max_tokens": 1, "max_bytes": 1, "grace": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not low <= value < (65536 if name == "port" else 2**31):
                raise UserError(
                    f"--{name} {value}: must be {low} or more" + (", up to 65535" if name == "port" else "")
                )
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise UserError(f"--device {self.device}: expected one of auto, cpu, cuda, mps")
        if self.precision not in PRECISIONS:
            raise UserError(f"--precision {self.precision}: expected one of {', '.join(PRECISIONS)}")


def serve(paths: Sequence[Path], options: ServeOptions, say: Callable[[str], None] = print) -> str:
    """Serve until a signal comes; returns its name. UserError for all that is wrong before."""
    names = model_names(paths)
    device = distributed.start(options.device).device
    file = Path(options.ledger)
    prices = read_prices(Path(options.prices), names) if options.prices is not None else None
    with owned(file), bound(options.host, options.port) as sock:
        writing, reading = Ledger(file, prices), Ledger(file)
        try:
            refuse_strangers(options, reading)
            for path in paths:
                refuse_unsound(path, options, device, say)
            models = {name: open_model(name, path, options, device) for name, path in zip(names, paths, strict=True)}
            if settled := writing.settle_open():
                say(f"{settled} requests that the last server left unfinished are settled as interrupted")
            service = Service(models, reading, options.max_tokens, say if options.log else lambda line: None)
            return asyncio.run(run(service, writing, sock, options, say))
        finally:
            writing.close()
            reading.close()


async def run(
    service: Service, writing: Ledger, sock: socket.socket, options: ServeOptions, say: Callable[[str], None]
) -> str:
    """Answer requests until a signal comes; its name."""
    app = Guard(make_app(service, options.max_bytes), hosts(options), service.metrics.response)
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", limit_concurrency=CONNECTIONS, server_header=False,
        timeout_graceful_shutdown=5, backlog=CONNECTIONS, http=Connection, ws="none",
    )  # fmt: skip
    server = Server(config)
    received: list[str] = []
    stopped = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if received:
            os._exit(128 + number)
        received.append(number.name)
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    service.start(writing)
    serving = asyncio.create_task(server.serve([sock]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.01)
    host, port = sock.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    warning = "" if service.has_keys() else "; no API keys: who reaches it may use it"
    say(f"serving {', '.join(service.models)} at {url}{warning}")
    say(f"next: open {url}/, or: curl {url}/v1/models")
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if service.running:
        say(f"{len(service.running)} answers may end within {options.grace:g} s; a second signal ends them now")
    await service.stop(options.grace)
    server.should_exit = True
    await serving
    return received[0] if received else ""


class Server(uvicorn.Server):
    """uvicorn, without its handling of signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: `run` hears them."""
        yield


def hosts(options: ServeOptions) -> set[str] | None:
    """Names that requests may be sent to; None: any, as others reach the server by names that it does not know."""
    if not is_loopback(options.host) and not options.allow_hosts:
        return None
    own = f"[{options.host}]" if ":" in options.host else options.host
    return {*LOOPBACK, own.lower(), *map(str.lower, options.allow_hosts)}


def model_names(paths: Sequence[Path]) -> list[str]:
    """RUN/ckptN of each; UserError for two of one name."""
    names = [f"{path.resolve().parent.name}/{path.resolve().name}" for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{twice[0]}: two checkpoints would have this name")
    return names


def refuse_strangers(options: ServeOptions, ledger: Ledger) -> None:
    """UserError where other machines could use what nobody guards."""
    if not is_loopback(options.host) and not any_keys(ledger) and not options.without_keys:
        raise UserError(
            f"--host {options.host}: other machines could use it without a key; make one with "
            "`python server/keys.py create NAME`, or say --without_keys true"
        )


def refuse_unsound(path: Path, options: ServeOptions, device: torch.device, say: Callable[[str], None]) -> None:
    """As `python eval/check.py` looks at it; UserError with what fails, unless forced."""
    found = check(path, options.quick, device.type)
    failing = [line for line in found["lines"] if line["status"] == "fail"]
    told = "; ".join(f"{line['name']}: {line['found']}" for line in failing)
    if failing and not options.force:
        raise UserError(f"{path} is not sound ({told}): take another, or say --force true")
    say(
        f"{path} is {'NOT sound, and served by --force' if failing else 'sound'}: "
        + (told or f"{found['counts']['pass']} checks pass")
    )


def open_model(name: str, path: Path, options: ServeOptions, device: torch.device) -> Served:
    """A checkpoint in memory, with its worker; UserError where it does not open."""
    model, dialog, meta = load_to_ask(path, device, hashes=False, dtype=PRECISIONS[options.precision])  # checked before
    model, num_rows = pack(model), model.shape.vocab_size
    # Others' embeddings may have more rows than their tokenizer has tokens: what those say is nothing.
    dialog = replace(dialog, banned=[*dialog.banned, *range(dialog.vocab_size, num_rows)])
    fingerprint = f"loam-{meta.get('files', {}).get('model.safetensors', '')[:12]}"
    created = int((path / "config.json").stat().st_mtime)
    return Served(name, dialog, Worker(model, options.rows, options.queue), model.shape.seq_len, created, fingerprint)


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at the address, on which uvicorn will listen; UserError where it cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a client that takes nothing for a minute is cut off by the system
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
        sock.bind(address)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error.strerror or error})") from None
    with sock:
        yield sock


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
