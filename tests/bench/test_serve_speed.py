"""The server's benchmark counts what clients got: a tiny run end to end, and its arithmetic."""

from pathlib import Path

import pytest

from bench import serve_speed
from bench.serve_speed import Answer, Options, line_of, make_checkpoint, measure, summary


def test_a_small_run_loses_nothing_and_tells_each_number_of_clients(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "speed", "tiny")
    options = Options(clients=[1, 3], requests=2, prompt=5, answer=7, rows=2, turns=1)
    found = measure(tmp_path, checkpoint, options)
    assert [level["clients"] for level in found] == [1, 3]
    for level in found:
        assert level["tokens_per_s"] == pytest.approx(7 * level["requests_per_s"], rel=1e-3)
        assert 0 < level["first_token_median_s"] <= level["first_token_p95_s"]
        assert f"{level['clients']} clients" in line_of(level)


def test_a_lost_token_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint(tmp_path / "speed", "tiny")

    async def shorter(*args: object) -> Answer:
        return Answer(0.1, 6)

    monkeypatch.setattr(serve_speed, "ask", shorter)
    with pytest.raises(AssertionError, match="tokens are lost"):
        measure(tmp_path, checkpoint, Options(clients=[1], requests=1, answer=7, turns=1))


def test_medians_and_rates() -> None:
    answers = [Answer(first / 100, 10) for first in range(1, 101)]
    found = summary(answers, 20.0)
    assert found["requests_per_s"] == 5.0
    assert found["tokens_per_s"] == 50.0
    assert found["first_token_median_s"] == pytest.approx(0.505)
    assert found["first_token_p95_s"] == 0.96
