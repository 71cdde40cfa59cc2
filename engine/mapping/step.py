"""Single steps that bring canonical text of one type into another: each first says which values it must refuse, then changes the rest.

Steps work on whole Arrow string arrays. Refused values are null by the time `change` sees the array, so it meets only what it can handle.
"""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_UUID = r"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"
_UUID_PARTS = r"^(.{8})-?(.{4})-?(.{4})-?(.{4})-?(.{12})$"


class Step:
    """reason: the word of `Poison.reason` for what it refuses."""

    reason = "range"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:  # noqa: ARG002
        """True where a value has no place in the target; null for null. None when all have."""
        return None

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return values

    def what(self, text: str) -> str:
        """Why this value is refused, without telling it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Trimmed(Step):
    """Trailing blanks do not count in CHAR(n)."""

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return pc.utf8_rtrim(values, characters=" ")


@dataclass(frozen=True, slots=True)
class Characters(Step):
    limit: int
    reason = "too_long"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.greater(pc.utf8_length(values), self.limit)

    def what(self, text: str) -> str:
        return f"{len(text)} characters, the target takes {self.limit}"


@dataclass(frozen=True, slots=True)
class NoNul(Step):
    reason = "encoding"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.match_substring(values, "\0")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "holds the character NUL, which PostgreSQL's text cannot"


@dataclass(frozen=True, slots=True)
class Labels(Step):
    labels: tuple[str, ...]
    reason = "type"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        known = pc.is_in(values, value_set=pa.array(self.labels, type=pa.string()))
        return pc.and_(pc.invert(known), pc.is_valid(values))

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the value is none of the target's labels"


@dataclass(frozen=True, slots=True)
class LabelSet(Step):
    """Labels joined by commas, in any order and possibly twice, in the order of the definition. Few distinct values are expected."""

    labels: tuple[str, ...]
    reason = "type"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        known = set(self.labels)
        return _each(values, pa.bool_(), lambda text: bool(text) and not known.issuperset(text.split(",")))

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return _each(values, pa.string(), lambda text: ",".join(label for label in self.labels if label in text.split(",")))

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the value names a label that the target does not have"


@dataclass(frozen=True, slots=True)
class IntRange(Step):
    low: int
    high: int

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        long = pc.greater(pc.binary_length(values), 20)
        numbers = pc.cast(pc.if_else(long, "0", values), pa.decimal128(38, 0))
        low, high = (pa.scalar(Decimal(bound), type=pa.decimal128(38, 0)) for bound in (self.low, self.high))
        return pc.or_(long, pc.or_(pc.less(numbers, low), pc.greater(numbers, high)))

    def what(self, text: str) -> str:  # noqa: ARG002
        return f"the number is outside of {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Whole(Step):
    """A decimal number into an integer: no digits after the point, nor NaN or infinity."""

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.invert(pc.match_substring_regex(values, r"^-?\d+(\.0*)?$"))

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return _no_minus_zero(pc.replace_substring_regex(values, r"\.0*$", ""))

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the number is not whole, the target takes whole numbers"


@dataclass(frozen=True, slots=True)
class ZeroOrOne(Step):
    """An integer into a boolean."""

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.invert(pc.or_(pc.equal(values, "0"), pc.equal(values, "1")))

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return pc.if_else(pc.equal(values, "1"), "t", "f")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the number is neither 0 nor 1, the target takes true and false"


@dataclass(frozen=True, slots=True)
class BoolNumber(Step):
    """A boolean into 1 and 0."""

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return pc.if_else(pc.equal(values, "t"), "1", "0")


@dataclass(frozen=True, slots=True)
class NotNegative(Step):
    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.match_substring_regex(values, r"^-.*[1-9I]")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the number is negative, the target is unsigned"


@dataclass(frozen=True, slots=True)
class Finite(Step):
    """`infinite`: only infinities are refused, NaN passes."""

    infinite: bool = False

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.match_substring(values, "f") if self.infinite else pc.match_substring_regex(values, "[fN]")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the number is infinite, the target takes finite ones" if self.infinite else "NaN and Infinity have no place in the target"


@dataclass(frozen=True, slots=True)
class PlainNumber(Step):
    """A float's text without exponent and without `-0`."""

    def change(self, values: pa.StringArray) -> pa.StringArray:
        exponents = pc.match_substring(values, "e")
        if pc.any(exponents).as_py():
            values = _each(values, pa.string(), lambda text: format(Decimal(text), "f") if "e" in text else text)
        return _no_minus_zero(values)


@dataclass(frozen=True, slots=True)
class PadScale(Step):
    """A decimal of `have` digits after the point, all of which the target holds."""

    have: int
    scale: int

    def change(self, values: pa.StringArray) -> pa.StringArray:
        tail = ("" if self.have else ".") + "0" * (self.scale - self.have)
        padded = pc.binary_join_element_wise(values, tail, "")
        special = pc.match_substring_regex(values, "[fN]")
        return pc.if_else(special, values, padded) if pc.any(special).as_py() else padded


@dataclass(frozen=True, slots=True)
class Digits(Step):
    """A decimal into `precision` digits, `scale` of them after the point. NaN and infinities pass."""

    precision: int
    scale: int

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        before, after = _digits(_short(values))
        return pa.array((before > self.precision - self.scale) | (after > self.scale), mask=values.is_null().to_numpy(zero_copy_only=False))

    def change(self, values: pa.StringArray) -> pa.StringArray:
        short = _short(values)
        if self.scale == 0:
            return short
        _, after = _digits(short)
        special = pc.fill_null(pc.match_substring_regex(short, "[fN]"), False).to_numpy(zero_copy_only=False)
        tails = ["", *(("" if have else ".") + "0" * (self.scale - have) for have in range(self.scale + 1))]
        which = np.where(special, 0, np.minimum(after, self.scale) + 1)
        return pc.binary_join_element_wise(short, pa.array(tails, type=pa.string()).take(pa.array(which)), "")

    def what(self, text: str) -> str:
        before, after = _digits(_short(pa.array([text], type=pa.string())))
        if after[0] > self.scale:
            return f"{after[0]} digits after the point, the target keeps {self.scale}"
        return f"{before[0]} digits before the point, the target takes {self.precision - self.scale}"


@dataclass(frozen=True, slots=True)
class Float(Step):
    """A number into a float of `bits`. `exact`: it must be the same number; else its decimal text must read back from the float."""

    bits: int
    exact: bool

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        wide = pc.cast(values, pa.float64())
        if self.exact:
            return pc.and_(pc.not_equal(wide, pc.cast(pc.cast(wide, pa.float32()), pa.float64())), pc.equal(wide, wide))
        safe = pc.less_equal(pc.binary_length(values), 15 if self.bits == 64 else 6)
        if pc.all(safe).as_py() is not False:
            return None
        return _each(values, pa.bool_(), self._differs)

    def _differs(self, text: str) -> bool:
        number = Decimal(text)
        near = np.float64(text) if self.bits == 64 else np.float32(text)
        return bool(number.is_finite() and (not np.isfinite(near) or Decimal(str(near)) != number))

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return float_text(pc.cast(values, pa.float64()) if self.bits == 64 else pc.cast(pc.cast(values, pa.float64()), pa.float32()))

    def what(self, text: str) -> str:  # noqa: ARG002
        return f"a {self.bits}-bit floating-point number does not hold this number exactly"


@dataclass(frozen=True, slots=True)
class Widened(Step):
    """A 32-bit float into the text of the 64-bit float of the same value."""

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return float_text(pc.cast(pc.cast(values, pa.float32()), pa.float64()))


def float_text(numbers: pa.Array) -> pa.StringArray:
    """Shortest text that reads back."""
    text = pc.cast(numbers, pa.string())
    text = pc.replace_substring_regex(text, r"^(-?)inf$", r"\1Infinity")
    return pc.replace_substring_regex(text, r"^-?nan$", "NaN")


@dataclass(frozen=True, slots=True)
class FourDigitYear(Step):
    """Dates that MySQL can hold: years up to 9999, nothing before Christ, no infinity."""

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.invert(pc.match_substring_regex(values, r"^\d{4}-\d\d-\d\d( [0-9:.+]*)?$"))

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the date is infinite or outside of the years 1 to 9999"


@dataclass(frozen=True, slots=True)
class WholeDate(Step):
    """MySQL's dates with a zero as year, month or day exist nowhere else."""

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.match_substring_regex(values, r"^0000|^-?\d+-00|^-?\d+-\d\d-00")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the date has a zero as year, month or day"


@dataclass(frozen=True, slots=True)
class TimeOfDay(Step):
    """MySQL's times may be negative or longer than a day."""

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.invert(pc.match_substring_regex(values, r"^([01]\d|2[0-3]):|^24:00:00$"))

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the time is negative or longer than a day"


@dataclass(frozen=True, slots=True)
class Fraction(Step):
    digits: int

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.match_substring_regex(values, rf"\.\d{{{self.digits + 1},}}")

    def what(self, text: str) -> str:
        have = len(text.rpartition(".")[2].partition("+")[0].partition(" ")[0])
        return f"{have} digits after the second, the target keeps {self.digits}"


@dataclass(frozen=True, slots=True)
class DayOnly(Step):
    """A date with time into a date."""

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        midnight = pc.match_substring_regex(values, r" 00:00:00( BC)?$")
        return pc.and_not(pc.match_substring(values, ":"), midnight)

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return pc.replace_substring(values, " 00:00:00", "")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the value has a time of day, the target takes dates"


@dataclass(frozen=True, slots=True)
class Midnight(Step):
    """A date into a date with time."""

    def change(self, values: pa.StringArray) -> pa.StringArray:
        return pc.replace_substring_regex(values, r"^(\d+-\d\d-\d\d)", r"\1 00:00:00")


@dataclass(frozen=True, slots=True)
class Uuid(Step):
    reason = "type"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.invert(pc.match_substring_regex(values, _UUID))

    def change(self, values: pa.StringArray) -> pa.StringArray:
        lower = pc.ascii_lower(values)
        if pc.all(pc.equal(pc.binary_length(lower), 36)).as_py():
            return lower
        return pc.replace_substring_regex(lower, _UUID_PARTS, r"\1-\2-\3-\4-\5")

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the text is not a UUID"


@dataclass(frozen=True, slots=True)
class Bytes(Step):
    limit: int
    reason = "too_long"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.greater(pc.binary_length(values), 2 + 2 * self.limit)

    def what(self, text: str) -> str:
        return f"{len(text) // 2 - 1} bytes, the target takes {self.limit}"


@dataclass(frozen=True, slots=True)
class AllBytes(Step):
    """BINARY(n) has n bytes: it would fill up a shorter value with zero bytes, and hold another one."""

    length: int

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return pc.less(pc.binary_length(values), 2 + 2 * self.length)

    def what(self, text: str) -> str:
        return f"{len(text) // 2 - 1} bytes, the target has {self.length} always and would add zero bytes"


@dataclass(frozen=True, slots=True)
class NamedOnce(Step):
    """PostgreSQL's jsonb keeps the last of several members of one name."""

    reason = "type"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return _each(values, pa.bool_(), _named_twice)

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the document names a member twice, jsonb keeps one of them"


def _named_twice(text: str) -> bool:
    try:
        json.loads(text, object_pairs_hook=_members)
    except _Twice:
        return True
    except (ValueError, RecursionError):
        return False  # whether it is JSON is for others to say
    return False


class _Twice(Exception):
    pass


def _members(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
        raise _Twice


@dataclass(frozen=True, slots=True)
class Document(Step):
    """Text into JSON."""

    reason = "type"

    def refuses(self, values: pa.StringArray) -> pa.BooleanArray | None:
        return _each(values, pa.bool_(), _no_json)

    def what(self, text: str) -> str:  # noqa: ARG002
        return "the text is not JSON"


def _no_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return True
    return False


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _each(values: pa.StringArray, to: pa.DataType, function: Callable[[str], object]) -> pa.Array:
    """A Python function over the distinct values."""
    encoded = values.dictionary_encode()
    results = pa.array([function(text) for text in encoded.dictionary.to_pylist()], type=to)
    return results.take(encoded.indices)


def _no_minus_zero(values: pa.StringArray) -> pa.StringArray:
    minus_zero = pc.equal(values, "-0")
    return pc.if_else(minus_zero, "0", values) if pc.any(minus_zero).as_py() else values


def _short(values: pa.StringArray) -> pa.StringArray:
    """Decimals without zeros at the end of the fraction."""
    short = pc.ascii_rtrim(pc.ascii_rtrim(values, characters="0"), characters=".")
    point = pc.match_substring(values, ".")
    return _no_minus_zero(short if pc.all(point).as_py() else pc.if_else(point, short, values))


def _digits(short: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Digits before and after the point; 0 and 0 for null, NaN and infinities. A lone zero before the point counts for none."""
    length = pc.fill_null(pc.binary_length(short), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    point = pc.fill_null(pc.find_substring(short, "."), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    minus = pc.fill_null(pc.starts_with(short, "-"), False).to_numpy(zero_copy_only=False)
    zero = pc.fill_null(pc.or_(pc.starts_with(short, "0"), pc.starts_with(short, "-0")), False).to_numpy(zero_copy_only=False)
    special = pc.fill_null(pc.match_substring_regex(short, "[fN]"), True).to_numpy(zero_copy_only=False)
    before = np.where(point >= 0, point, length) - minus - zero
    after = np.where(point >= 0, length - point - 1, 0)
    return np.where(special, 0, before), np.where(special, 0, after)
