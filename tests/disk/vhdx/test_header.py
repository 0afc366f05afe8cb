"""Which header is current, and what makes one unusable."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from stillframe.disk.vhdx.errors import HeaderError, UnsupportedVhdxError
from stillframe.disk.vhdx.header import MAX_LOG_BYTES, read_current_header
from tests.disk.vhdx.builder import KIB, MIB, DiskBuilder, HeaderFields

FIRST, SECOND = 64 * KIB, 128 * KIB
ONE, TWO = UUID(int=1), UUID(int=2)


def current(first: HeaderFields, second: HeaderFields, *patches: tuple[int, bytes]) -> UUID:
    builder = DiskBuilder(header=first, second_header=second)
    return read_current_header(builder.reader(*patches)).data_write_id


@pytest.mark.parametrize(("first", "second", "wanted"), [(5, 6, TWO), (6, 5, ONE), (1 << 63, 1, ONE)])
def test_the_greater_number_is_current(first: int, second: int, wanted: UUID) -> None:
    headers = HeaderFields(first, data_write_id=ONE), HeaderFields(second, data_write_id=TWO)
    assert current(*headers) == wanted


@pytest.mark.parametrize("torn_at", [0, 4, 40, 100, 4095])
def test_a_torn_header_is_not_current(torn_at: int) -> None:
    headers = HeaderFields(5, data_write_id=ONE), HeaderFields(6, data_write_id=TWO)
    torn = bytearray(headers[1].encode())
    torn[torn_at] ^= 1
    assert current(*headers, (SECOND, bytes(torn))) == ONE


def test_no_valid_header() -> None:
    with pytest.raises(HeaderError, match="neither of the two headers"):
        current(HeaderFields(), HeaderFields(), (FIRST, b"x"), (SECOND, b"x"))


def test_equal_numbers_are_accepted_only_from_equal_headers() -> None:
    header = HeaderFields(5, data_write_id=ONE)
    assert current(header, header) == ONE
    with pytest.raises(HeaderError, match="number 5"):
        current(header, replace(header, data_write_id=TWO))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": 2}, UnsupportedVhdxError, "version 2"),
        ({"log_version": 1, "log_id": ONE}, UnsupportedVhdxError, "log version 1"),
        ({"log_length": MAX_LOG_BYTES + MIB}, UnsupportedVhdxError, "we allow"),
        ({"log_length": 4 * KIB}, HeaderError, "whole MiB"),
        ({"log_length": 0, "log_id": ONE}, HeaderError, "whole MiB"),
        ({"log_offset": 0}, HeaderError, "whole MiB"),
        ({"log_offset": MIB + 512}, HeaderError, "whole MiB"),
        ({"log_offset": 16 * MIB}, HeaderError, "ends behind the file"),
        ({"log_offset": (1 << 64) - MIB}, HeaderError, "ends behind the file"),
    ],
)
def test_a_current_header_that_cannot_be_used(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        current(HeaderFields(1), replace(HeaderFields(2), **changes))


def test_an_unknown_log_version_matters_only_when_there_is_a_log() -> None:
    header = HeaderFields(log_version=1, data_write_id=ONE)
    assert current(header, header) == ONE
