"""Which types go into which, by which steps, and what may be lost on the way.

Nothing is rounded, cut or replaced: a value that the target's type cannot hold is refused by a step. Steps that can never strike are left
out.
"""
from __future__ import annotations

from dataclasses import dataclass

from engine.mapping.step import (
    AllBytes,
    BoolNumber,
    Bytes,
    Characters,
    DayOnly,
    Digits,
    Document,
    Finite,
    Float,
    FourDigitYear,
    Fraction,
    IntRange,
    Labels,
    LabelSet,
    Midnight,
    NamedOnce,
    NoNul,
    NotNegative,
    PadScale,
    PlainNumber,
    Step,
    TimeOfDay,
    Trimmed,
    Uuid,
    Whole,
    WholeDate,
    Widened,
    ZeroOrOne,
)
from engine.model.types import DataType, Kind

POSTGRES, MYSQL, DUCKDB = "postgres", "mysql", "duckdb"

_CASTS = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT: "BIGINT",
    Kind.FLOAT: "DOUBLE",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.DATETIME: "TIMESTAMP",
    Kind.INSTANT: "TIMESTAMPTZ",
    Kind.UUID: "UUID",
    Kind.BYTES: "BLOB",
}
_CAST_TEXT = "write CAST({{0}} AS VARCHAR) if {0} reads that text"
_ZONE = "write {0} AT TIME ZONE 'UTC', or another zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """steps: in order. warning: what some values may be refused for; empty when every value fits."""

    steps: tuple[Step, ...] = ()
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impossible:
    """No value fits. `fix` may hold `{0}` for the expression."""

    what: str
    fix: str


def conversion(have: DataType, want: DataType, *, source: str, target: str) -> Conversion | Impossible:
    """From canonical text of type `have` to that of `want`. source, target: the adapters' names; "duckdb" as source of a computed value; empty when
    unknown."""
    pair = _Pair(have=have, want=want, source=source, target=target)
    match have.kind, want.kind:
        case (Kind.OPAQUE, Kind.OPAQUE):
            return Conversion() if have.name == want.name and source == target else pair.impossible(_CAST_TEXT.format(want.name))
        case (_, Kind.OPAQUE):
            return pair.to_opaque()
        case (_, Kind.TEXT):
            return pair.to_text()
        case (Kind.BOOL | Kind.INT | Kind.DECIMAL | Kind.FLOAT, Kind.BOOL | Kind.INT | Kind.DECIMAL | Kind.FLOAT):
            return pair.number()
        case (Kind.TEXT | Kind.ENUM | Kind.SET, Kind.ENUM | Kind.SET):
            return pair.to_labels()
        case (Kind.TEXT, Kind.UUID):
            step = Uuid()
            return Conversion(steps=(step,), warning="" if have.length == 36 else "text that is not a UUID is set aside")
        case (Kind.TEXT, Kind.JSON):
            once = (NamedOnce(),) if want.name == "jsonb" else ()
            return Conversion(steps=(Document(), *once), warning="text that is not JSON is set aside")
        case (Kind.BYTES, Kind.BYTES):
            return pair.to_bytes()
        case (Kind.DATE | Kind.DATETIME | Kind.INSTANT, Kind.DATE | Kind.DATETIME | Kind.INSTANT):
            return pair.calendar()
        case (Kind.TIME, Kind.TIME):
            return pair.time()
        case (Kind.JSON, Kind.JSON):
            return Conversion(steps=(NamedOnce(),) if want.name == "jsonb" and have.name != "jsonb" else ())
        case (Kind.UUID, Kind.UUID):
            return Conversion()
        case _:
            return pair.impossible(_advice(have, want))


def _advice(have: DataType, want: DataType) -> str:
    if have.kind is Kind.UUID and want.kind is Kind.BYTES:
        return "write unhex(replace(CAST({0} AS VARCHAR), '-', ''))"
    if have.kind is Kind.BYTES and want.kind is Kind.UUID:
        return "write CAST(lower(hex({0})) AS UUID)"
    if have.kind in (Kind.BYTES, Kind.OPAQUE) or want.kind in (Kind.SET, Kind.ENUM):
        return "write an expression that gives a value of the target's type"
    cast = _CASTS.get(want.kind, "")
    if want.kind is Kind.DECIMAL:
        cast = f"DECIMAL({want.precision or 38}, {want.scale or 0})"
    return f"write CAST({{0}} AS {cast})" if cast else "write an expression that gives a value of the target's type"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    have: DataType
    want: DataType
    source: str
    target: str

    def impossible(self, fix: str) -> Impossible:
        return Impossible(what=f"{describe(self.have)} does not go into {describe(self.want)}", fix=fix)

    # -- text and labels

    def to_text(self) -> Conversion | Impossible:
        have, want = self.have, self.want
        if have.kind is Kind.BYTES:
            return self.impossible("write decode({0}) for UTF-8 text, or hex({0})")
        if have.kind is Kind.BOOL:
            return self.impossible("write CASE WHEN {0} THEN 'yes' ELSE 'no' END, or whatever texts the target uses")
        if want.length is not None and have.kind is Kind.UUID and want.length < 36:
            return self.impossible("write replace(CAST({0} AS VARCHAR), '-', '') for 32 characters")
        steps: list[Step] = []
        if want.padded and not have.padded and have.kind is Kind.TEXT:
            steps.append(Trimmed())
        warning = ""
        longest = text_length(have)
        if want.length is not None and (longest is None or longest > want.length):
            steps.append(Characters(want.length))
            size = f"up to {longest} characters" if longest else "text without a bound"
            unsure = self.source == DUCKDB and longest is None
            warning = "" if unsure else f"{size}, the target takes {want.length}: longer values are set aside"
        if self.target == POSTGRES and self.source != POSTGRES and have.kind in (Kind.TEXT, Kind.JSON, Kind.ENUM, Kind.SET):
            steps.append(NoNul())
        return Conversion(steps=tuple(steps), warning=warning)

    def to_labels(self) -> Conversion | Impossible:
        have, want = self.have, self.want
        if have.kind is Kind.SET and want.kind is Kind.ENUM:
            return self.impossible("write an expression that gives one label")
        if want.kind is Kind.SET:
            same = have.kind in (Kind.SET, Kind.ENUM) and have.labels == want.labels
            return Conversion() if same else Conversion(steps=(LabelSet(want.labels),), warning=self._other_labels())
        if have.kind is Kind.ENUM and set(have.labels) <= set(want.labels):
            return Conversion()
        return Conversion(steps=(Labels(want.labels),), warning=self._other_labels())

    def _other_labels(self) -> str:
        lacking = [label for label in self.have.labels if label not in self.want.labels]
        if self.have.labels:
            return f"the target has no label {', '.join(lacking)}: such values are set aside" if lacking else ""
        return "" if self.source == DUCKDB else "text that is none of the target's labels is set aside"

    def to_opaque(self) -> Conversion | Impossible:
        if self.have.kind not in (Kind.TEXT, Kind.JSON):
            return self.impossible(_CAST_TEXT.format(self.want.name))
        return Conversion(steps=(NoNul(),) if self.target == POSTGRES else (), warning=f"text that {self.want.name} cannot read is set aside")

    def to_bytes(self) -> Conversion:
        have, want = self.have, self.want
        steps: list[Step] = []
        warning = ""
        if want.length is not None and (have.length is None or have.length > want.length):
            steps.append(Bytes(want.length))
            size = f"up to {have.length} bytes" if have.length else "bytes without a bound"
            warning = "" if self.source == DUCKDB else f"{size}, the target takes {want.length}: longer values are set aside"
        if want.padded and want.length is not None and not (have.padded and have.length == want.length):
            steps.append(AllBytes(want.length))
            fewer = f"the target has {want.length} bytes always: shorter values are set aside"
            warning = "" if self.source == DUCKDB else "; ".join(filter(None, [warning, fewer]))
        return Conversion(steps=tuple(steps), warning=warning)

    # -- numbers

    def number(self) -> Conversion:
        have, want = self.have, self.want
        steps: list[Step] = []
        warnings: list[str] = []
        if have.kind is Kind.BOOL:
            if want.kind is Kind.BOOL:
                return Conversion()
            steps.append(BoolNumber())
            have = DataType(kind=Kind.INT, name=have.name, bits=8, signed=False, precision=1)
        if want.kind is Kind.BOOL:
            steps += [*self._to_whole(have, warnings), ZeroOrOne()]
            warnings.append("numbers other than 0 and 1 are set aside")
        elif want.kind is Kind.INT:
            steps += self._to_int(have, warnings)
        elif want.kind is Kind.DECIMAL:
            steps += self._to_decimal(have, warnings)
        else:
            steps += self._to_float(have, warnings)
        if not want.signed and want.kind in (Kind.DECIMAL, Kind.FLOAT) and have.signed:
            steps.insert(0, NotNegative())
            warnings.append("negative numbers are set aside")
        return Conversion(steps=tuple(steps), warning="; ".join(warnings))

    def _to_whole(self, have: DataType, warnings: list[str]) -> list[Step]:
        if have.kind is Kind.INT:
            return []
        if have.scale != 0:
            warnings.append("numbers with digits after the point are set aside")
        elif self.source in (MYSQL, DUCKDB):
            return []
        return [PlainNumber(), Whole()] if have.kind is Kind.FLOAT else [Whole()]

    def _to_int(self, have: DataType, warnings: list[str]) -> list[Step]:
        steps = self._to_whole(have, warnings)
        low, high = int_bounds(self.want)
        have_low, have_high = _bounds(have)
        if have_low < low or have_high > high:
            steps.append(IntRange(low, high))
            warnings.append(f"numbers outside of {low} to {high} are set aside")
        return steps

    def _to_decimal(self, have: DataType, warnings: list[str]) -> list[Step]:
        want = self.want
        steps: list[Step] = [PlainNumber()] if have.kind is Kind.FLOAT else []
        special = have.kind is Kind.FLOAT or (have.kind is Kind.DECIMAL and self.source not in (MYSQL, DUCKDB))
        if special and self.target == MYSQL:
            steps.append(Finite())
        elif special and self.target == POSTGRES and want.precision is not None and have.precision is None:
            steps.append(Finite(infinite=True))
        if want.precision is None or want.scale is None:
            return steps
        before, after = _decimal_digits(have)
        if before is None or after is None or before > want.precision - want.scale or after > want.scale:
            steps.append(Digits(want.precision, want.scale))
            most = f"{want.precision - want.scale} digits before or {want.scale} after the point"
            warnings.append(f"numbers of more than {most} are set aside")
        elif after < want.scale:
            steps.append(PadScale(after, want.scale))
        return steps

    def _to_float(self, have: DataType, warnings: list[str]) -> list[Step]:
        want = self.want
        steps: list[Step] = []
        special = have.kind is Kind.FLOAT or (have.kind is Kind.DECIMAL and self.source != DUCKDB)
        if special and self.source != MYSQL and self.target == MYSQL:
            steps.append(Finite())
        if have.kind is Kind.FLOAT:
            if have.bits > want.bits:
                steps.append(Float(want.bits, exact=True))
                warnings.append("numbers that a 32-bit float does not hold exactly are set aside")
            elif have.bits < want.bits:
                steps.append(Widened())
            return steps
        before, after = _decimal_digits(have)
        if before is None or after is None or before + after > (15 if want.bits == 64 else 6):
            warnings.append("numbers of more digits than the floating-point number holds are set aside")
            return [*steps, Float(want.bits, exact=False)]
        return steps

    # -- dates and times

    def calendar(self) -> Conversion | Impossible:
        have, want = self.have, self.want
        if (have.kind is Kind.INSTANT) != (want.kind is Kind.INSTANT):
            if have.kind is Kind.DATE:
                return self.impossible("write CAST({0} AS TIMESTAMP) AT TIME ZONE 'UTC', or another zone")
            if want.kind is Kind.DATE:
                return self.impossible("write CAST({0} AT TIME ZONE 'UTC' AS DATE), or another zone")
            return self.impossible(_ZONE)
        steps = self._calendar_limits()
        warning = ""
        if want.kind is Kind.DATE and have.kind is Kind.DATETIME:
            steps.append(DayOnly())
            warning = "values with a time of day are set aside"
        elif want.kind is not Kind.DATE and have.kind is Kind.DATE:
            steps.append(Midnight())
        elif want.kind is not Kind.DATE and have.fraction > want.fraction:
            steps.append(Fraction(want.fraction))
            warning = f"{have.fraction} digits after the second, the target keeps {want.fraction}: finer values are set aside"
        return Conversion(steps=tuple(steps), warning=warning)

    def _calendar_limits(self) -> list[Step]:
        if self.target == MYSQL and self.source != MYSQL:
            return [FourDigitYear()]
        if self.target == POSTGRES and self.source not in (POSTGRES, DUCKDB):
            return [WholeDate()]
        return []

    def time(self) -> Conversion:
        steps: list[Step] = [TimeOfDay()] if self.source not in (POSTGRES, DUCKDB) and self.target == POSTGRES else []
        warning = ""
        if self.have.fraction > self.want.fraction:
            steps.append(Fraction(self.want.fraction))
            warning = f"{self.have.fraction} digits after the second, the target keeps {self.want.fraction}: finer values are set aside"
        return Conversion(steps=tuple(steps), warning=warning)


def int_bounds(of: DataType) -> tuple[int, int]:
    """Smallest and largest value of an INT type."""
    return (-(2 ** (of.bits - 1)), 2 ** (of.bits - 1) - 1) if of.signed else (0, 2**of.bits - 1)


def _bounds(have: DataType) -> tuple[float, float]:
    """Of any number type."""
    if have.kind is Kind.INT:
        return int_bounds(have)
    if have.precision is None or have.scale is None:
        return float("-inf"), float("inf")
    most = 10 ** (have.precision - have.scale) - 1
    return (-most if have.signed else 0), most


def _decimal_digits(have: DataType) -> tuple[int | None, int | None]:
    """Most digits before and after the point."""
    if have.kind is Kind.INT:
        return have.precision or len(str(int_bounds(have)[1])), 0
    if have.precision is None or have.scale is None:
        return None, None
    return have.precision - have.scale, have.scale


def text_length(of: DataType) -> int | None:
    """Most characters of the canonical text, and of what DuckDB makes of it as VARCHAR; None when there is no bound."""
    match of.kind:
        case Kind.TEXT:
            return of.length
        case Kind.ENUM:
            return max((len(label) for label in of.labels), default=0)
        case Kind.SET:
            return sum(len(label) + 1 for label in of.labels)
        case Kind.INT:
            return max(len(str(bound)) for bound in int_bounds(of))
        case Kind.DECIMAL if of.precision is not None:
            return max(of.precision + 3, len("-Infinity"))
        case Kind.UUID:
            return 36
        case Kind.DATE:
            return 18
        case Kind.TIME:
            return 10 + (of.fraction + 1 if of.fraction else 0)
        case Kind.DATETIME | Kind.INSTANT:
            return 32 + of.fraction
        case Kind.FLOAT:
            return 24
        case _:
            return None


def describe(of: DataType) -> str:
    """A type for a person."""
    size = ""
    if of.kind in (Kind.TEXT, Kind.BYTES) and of.length is not None and "(" not in of.name:
        size = f"({of.length})"
    elif of.kind is Kind.DECIMAL and of.precision is not None and "(" not in of.name:
        size = f"({of.precision},{of.scale})"
    return of.name + size
