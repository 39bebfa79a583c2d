"""All records at once or one line after the other, in large or small blocks: what is read is the same."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alike import ALL, Observations, alike, difference, outcome
from hypothesis_profiles import EXAMPLES
from rinex_mutations import BASES, mutated

VARIABLES = st.sampled_from([("SNR",), ALL, ("Doppler", "SNR"), ("Pseudorange",)])


@pytest.mark.parametrize("name", BASES)
def test_a_file_with_everything_is_read_alike(tmp_path, name):
    """Nothing is left out of the files that are damaged below but what their notes say."""
    path = tmp_path / name
    path.write_bytes(BASES[name]())
    for variables in (("SNR",), ALL):
        result = alike(path, variables, blocks=(1, 7, 100, 1000, 4096))
        assert isinstance(result, Observations), result
        assert len(result.epoch) == {"rinex3": 15, "rinex2": 14, "simulated": 12}[name]
        assert not any("damaged" in note for note in result.notes), result.notes


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_alike(tmp_path, name, data):
    """Epochs, signals, values, notes and reasons do not depend on the way in which a file is read."""
    path = tmp_path / "damaged"
    path.write_bytes(data.draw(mutated(BASES[name]())))
    alike(path, data.draw(VARIABLES), blocks=[data.draw(st.sampled_from([50, 100, 333, 1000, 2500]))])


@pytest.mark.parametrize("receiver", ["01_reference", "02_canopy"])
@settings(
    max_examples=max(3, EXAMPLES // 50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_to_a_real_file_is_read_alike(tmp_path, rosalia, receiver, data):
    """The same of some epochs of real files, with all their systems and codes."""
    lines = min((rosalia / receiver).rglob("*.rnx")).read_bytes().splitlines(keepends=True)
    path = tmp_path / "damaged"
    path.write_bytes(data.draw(mutated(b"".join(lines[:400]))))
    alike(path, data.draw(VARIABLES), blocks=[data.draw(st.sampled_from([777, 5000, 20000]))])


@pytest.mark.parametrize("receiver", ["01_reference", "02_canopy"])
def test_real_files_are_read_alike(tmp_path, rosalia, receiver):
    """A whole real file: at once, line by line, in blocks, with CRLF, packed."""
    path = min((rosalia / receiver).rglob("*.rnx"))
    result = alike(path, ALL, blocks=(100_000,))
    assert isinstance(result, Observations)
    assert not result.notes
    assert len(result.epoch) == 180
    for other in (path.read_bytes().replace(b"\n", b"\r\n"), gzip.compress(path.read_bytes(), 1)):
        copy = tmp_path / "copy"
        copy.write_bytes(other)
        again = outcome(copy, ALL, block=300_001)
        assert isinstance(again, Observations)
        assert "digest" not in difference(result, again)
        assert again.digest != result.digest
