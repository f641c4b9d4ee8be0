"""Keys: shown once, kept hashed, needed as soon as there is one, dead as soon as they are revoked, limited each."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.errors import ApiError
from server.keys import Key, KeyOptions, create_key, find_key, list_keys, revoke_key
from server.ledger import Ledger
from server.limits import DAY, MINUTE, Limits
from server.usage import UsageOptions, usage_lines
from tests.server.conftest import NAME, ROOT, Running, environment, server, until

ASKED: dict[str, Any] = {"model": NAME, "prompt": [1, 50, 51], "max_tokens": 5, "extra_body": {"min_tokens": 5}}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "server" / words[0]), *words[1:]]
    return subprocess.run(script, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)


def made(folder: Path, name: str, *flags: str) -> str:
    done = command(folder, "keys.py", "create", name, *flags)
    assert done.returncode == 0, done.stderr
    assert "only time" in done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyed")


@pytest.fixture(scope="module")
def alice(folder: Path) -> str:
    return made(folder, "alice")


@pytest.fixture(scope="module")
def keyed(folder: Path, checkpoint: Path, alice: str) -> Iterator[Running]:
    with server(folder, checkpoint) as found:
        yield found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger.sqlite")
    yield found
    found.close()


def test_without_the_right_key_nothing_is_answered(keyed: Running, alice: str) -> None:
    assert keyed.client(alice).completions.create(**ASKED).choices
    for wrong in ("none", alice[:-1], alice + "x", alice.upper()):
        with pytest.raises(openai.AuthenticationError, match="wrong, or it is revoked"):
            keyed.client(wrong).completions.create(**ASKED)
        with pytest.raises(openai.AuthenticationError):
            keyed.client(wrong).models.list()
    assert httpx.get(keyed.url + "/v1/models", headers={b"authorization": "Bearer ü".encode()}).status_code == 401
    for headers in ({}, {"authorization": alice}, {"authorization": "Bearer"}, {"authorization": f"Basic {alice}"}):
        answer = httpx.get(keyed.url + "/v1/models", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "missing_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    assert httpx.get(keyed.url + "/healthz").status_code == 200


def test_a_key_counts_at_once_and_is_dead_at_once(keyed: Running, folder: Path) -> None:
    bob = made(folder, "bob")
    assert keyed.client(bob).completions.create(**ASKED).choices
    assert command(folder, "keys.py", "revoke", "bob").returncode == 0
    with pytest.raises(openai.AuthenticationError):
        keyed.client(bob).completions.create(**ASKED)
    again = command(folder, "keys.py", "revoke", "bob")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    taken = command(folder, "keys.py", "create", "bob")
    assert taken.returncode == 2
    assert "there is or was such a key" in taken.stderr
    listed = command(folder, "keys.py", "list").stdout
    assert "bob  revoked  no limits  1 requests, 8 tokens" in listed
    assert bob not in listed


def test_no_file_holds_a_key(keyed: Running, folder: Path, alice: str) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert [file.name for file in files if "sqlite" in file.name]
    for file in files:
        assert alice.encode() not in file.read_bytes()
        if "sqlite" in file.name and not file.name.endswith(".lock"):
            assert file.stat().st_mode & 0o077 == 0, file  # nobody else may read who uses what


def test_limits_hold_against_real_clients(keyed: Running, folder: Path) -> None:
    few = keyed.client(made(folder, "few", "--requests_per_minute", "2"))
    assert [bool(few.completions.create(**ASKED).choices) for _ in range(2)] == [True, True]
    with pytest.raises(openai.RateLimitError, match="2 requests a minute") as refused:
        few.completions.create(**ASKED)
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    little = keyed.client(made(folder, "little", "--tokens_per_day", "20"))
    assert [bool(little.completions.create(**ASKED).choices) for _ in range(2)] == [True, True]  # 8 each
    with pytest.raises(openai.RateLimitError, match="20 tokens a day"):
        little.completions.create(**ASKED)
    with pytest.raises(openai.RateLimitError, match="lower max_tokens"):
        little.completions.create(**{**ASKED, "max_tokens": 30})


def test_usage_is_told_by_key_and_as_csv(keyed: Running, folder: Path, alice: str) -> None:
    until(lambda: keyed.client(alice).completions.create(**ASKED).choices)
    told = command(folder, "usage.py", "--key", "alice").stdout
    assert f"alice  {NAME}  " in told
    written = command(folder, "usage.py", "--csv", "out.csv", "--key", "alice")
    assert written.returncode == 0, written.stderr
    lines = (folder / "out.csv").read_text().splitlines()
    assert lines[0].startswith("id,key,model,status,prompt_tokens,completion_tokens,price,cost,margin,currency,began")
    assert all(f",alice,{NAME},completed,3,5,0,0,0,," in line for line in lines[1:])
    assert len(lines) > 1
    assert command(folder, "usage.py", "--before", "2020-01-01", "--csv", "-").stdout.count("\n") == 1
    wrong = command(folder, "usage.py", "--since", "yesterday")
    assert (wrong.returncode, "expected a day" in wrong.stderr) == (2, True)


def test_a_host_that_others_reach_needs_keys(tmp_path: Path, checkpoint: Path) -> None:
    flags = [str(checkpoint), "--host", "0.0.0.0", "--port", "0", "--quick", "true"]
    refused = subprocess.run([sys.executable, str(ROOT / "serve.py"), *flags], cwd=tmp_path, env=environment(),
                             capture_output=True, text=True, timeout=120)  # fmt: skip
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --host 0.0.0.0: other machines could use it without a key")


# -- without a server


def test_names_and_hashes(ledger: Ledger) -> None:
    key = create_key(ledger, "alice", KeyOptions(tokens_per_day=7))
    assert len(key) == 48
    assert find_key(ledger, key) == Key("alice", None, None, 7)
    assert find_key(ledger, key[:-1]) is None
    assert find_key(ledger, "\ud800") is None
    revoke_key(ledger, "alice")
    assert find_key(ledger, key) is None
    for name in ("", "a b", "a\nb", "../x", "x" * 65, "alice"):
        with pytest.raises(ValueError, match="key"):
            create_key(ledger, name, KeyOptions())
    assert "7 tokens per day" in list_keys(ledger)[0]
    with pytest.raises(ValueError, match="tokens_per_day 0: must be 1 or more"):
        KeyOptions(tokens_per_day=0)


class Clock:
    now = 20_000 * DAY + 100.0

    def __call__(self) -> float:
        return self.now


def test_a_limit_counts_what_runs_and_forgets_what_is_past(ledger: Ledger) -> None:
    clock = Clock()
    limits, key = Limits(ledger, clock), Key("a", tokens_per_minute=100, tokens_per_day=150)
    limits.take(key, 60)
    with pytest.raises(ApiError, match="100 tokens a minute"):
        limits.take(key, 41)  # with what the first may yet take
    limits.take(key, 40)
    limits.settle("a", 60, 10)
    limits.settle("a", 40, 40)
    limits.take(key, 50)
    limits.settle("a", 50, 50)
    with pytest.raises(ApiError, match="a minute") as refused:
        limits.take(key, 1)
    assert refused.value.headers()["retry-after"] == "60"
    clock.now += MINUTE
    limits.take(key, 50)
    limits.settle("a", 50, 50)
    clock.now += MINUTE
    with pytest.raises(ApiError, match="150 tokens a day") as refused:
        limits.take(key, 1)
    assert int(refused.value.headers()["retry-after"]) == DAY - 100 - 2 * MINUTE
    clock.now += DAY
    limits.take(key, 100)


def test_requests_a_minute_slide(ledger: Ledger) -> None:
    clock = Clock()
    limits, key = Limits(ledger, clock), Key("a", requests_per_minute=2)
    limits.take(key, 1)
    clock.now += 40
    limits.take(key, 1)
    with pytest.raises(ApiError, match="2 requests a minute") as refused:
        limits.take(key, 1)
    assert refused.value.headers()["retry-after"] == "20"
    clock.now += 20
    limits.take(key, 1)


def test_after_a_start_the_ledger_says_what_was_used(ledger: Ledger) -> None:
    clock = Clock()
    with ledger.transaction() as db:
        for i, (began, tokens) in enumerate([(clock.now - 200, 7), (clock.now - 90, 60), (clock.now - 30, 20)]):
            row = (str(i), "a", "m", "completed", tokens, 0, 0, 0, "", began, 1.0)
            db.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    limits = Limits(ledger, clock)  # 100 seconds into the day
    with pytest.raises(ApiError, match="100 tokens a day"):
        limits.take(Key("a", tokens_per_day=100), 21)
    limits.take(Key("a", tokens_per_day=100, tokens_per_minute=40, requests_per_minute=2), 20)
    with pytest.raises(ApiError, match="2 requests a minute"):
        limits.take(Key("a", requests_per_minute=2), 1)


def test_sums_are_exact_beyond_nine_million_of_a_currency(ledger: Ledger) -> None:
    """What a whole number of SQLite holds, in millionths of a millionth: it raised."""
    with ledger.transaction() as db:
        for name in "abc":
            row = (name, "a", "m", "completed", 1, 1, 9 * 10**18 + 1, 3 * 10**18, "IDR", 0.0, 1.0)
            db.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    [line] = usage_lines(ledger, UsageOptions())
    assert "price 27000000.000000000003 IDR, cost 9000000, margin 18000000.000000000003 (66.7%)" in line
