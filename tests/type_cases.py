# ruff: noqa: E501
"""Which column types meet which, with the values at the edges of both: what the type round trip sends and what `docs/types.md` lists.

Literals are SQL of the source's database. What arrives is compared by SQL text of both sides in the form of the case (`FORMS`), which knows nothing
of how the engine carries values.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _exact_float(text: str | float) -> str:  # the driver gives a double as one: MySQL's CAST rounds it
    return (float(text) + 0.0).hex()  # -0 and 0 are one number


def _document(text: str) -> str:
    """Every member in it, twice named ones too; numbers exact; order of members aside."""
    try:
        parsed = json.loads(text, parse_float=_number, parse_int=_number, object_pairs_hook=lambda members: ("object", sorted(members, key=repr)))
    except ValueError:
        return text
    return repr(parsed)


def _number(text: str) -> Any:
    try:
        number = Decimal(text)
    except ArithmeticError:
        return text
    return number.normalize(EXACT) if number else Decimal(0)


@dataclass(frozen=True, slots=True)
class Form:
    """SQL of a text that is alike where values are alike, by adapter; `{}` is the column. read: what is left to do with the text."""

    postgres: str = "{}::text"
    mysql: str = "CAST({} AS CHAR CHARACTER SET utf8mb4)"
    read: Callable[[str], str] = str


FORMS = {
    "text": Form(),
    "characters": Form("encode(convert_to({}::text, 'UTF8'), 'hex')", "LOWER(HEX(CONVERT({} USING utf8mb4)))"),
    "printed": Form("CASE WHEN num_nonnulls({0}) = 1 THEN encode(convert_to(concat({0}), 'UTF8'), 'hex') END", "LOWER(HEX(CONVERT({} USING utf8mb4)))"),
    "padded": Form("rtrim({}::text, ' ')", "RTRIM({})"),
    "bytes": Form("encode({}, 'hex')", "LOWER(HEX({}))"),
    "hex text": Form("{}", "CONCAT('\\\\x', LOWER(HEX({})))"),
    "number": Form("{}::text", "CAST({} + 0 AS CHAR)", lambda text: str(Decimal(text).normalize())),
    "bool": Form("{}::int::text", "CAST({} + 0 AS CHAR)"),
    "float": Form("{}::float8::text", "{} * 1e0", _exact_float),
    "time": Form("{}::text", "CAST({} AS CHAR)", lambda text: text.rstrip("0").rstrip(".") if "." in text else text),
    "moment": Form("to_char({}, 'YYYY-MM-DD HH24:MI:SS.US')", "DATE_FORMAT({}, '%Y-%m-%d %H:%i:%s.%f')"),
    "uuid": Form("lower({}::text)", "LOWER(CAST({} AS CHAR))"),
    "set": Form(read=lambda text: repr(sorted(set(text.split(","))))),
    "json": Form("{}::text", "{}", _document),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A column of type `source` mapped to one of type `target`. values: literals that arrive. refused: literal -> code. to, back: expressions of the
    rules, `{}` the column, where the column alone does not do; back None: no way back. note: for the documentation."""

    source: str
    target: str
    values: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    form: str = "text"
    to: str = "{}"
    back: str | None = "{}"
    note: str = ""


def case(source: str, target: str, *values: str, refused: Mapping[str, str] | None = None, **more: Any) -> Case:
    return Case(source=source, target=target, values=values, refused=refused or {}, **more)


_CONTROL = r"E'CR\r LF\n TAB\t back\\slash quote'' \"double\" \x01\x7f'"
_MY_CONTROL = "'CR\\r LF\\n TAB\\t back\\\\slash quote'' \"double\" \\Z%_'"

POSTGRES_TO_MARIADB = (
    case("boolean", "tinyint(1)", "true", "false", form="bool"),
    case("boolean", "bit(1)", "true", "false", form="bool"),
    case("smallint", "smallint", "-32768", "32767", "0"),
    case("smallint", "tinyint unsigned", "0", "255", refused={"-1": "range", "256": "range"}),
    case("integer", "int", "-2147483648", "2147483647"),
    case("integer", "mediumint", "-8388608", "8388607", refused={"8388608": "range"}),
    case("bigint", "bigint", "-9223372036854775808", "9223372036854775807"),
    case("bigint", "bigint unsigned", "0", "9223372036854775807", refused={"-1": "range"}),
    case("bigint", "bit(64)", "0", "9223372036854775807", refused={"-1": "range"}, form="number"),
    case("integer", "year", "1901", "2155", "0", refused={"1900": "range", "2156": "range", "24": "range"}, form="number"),
    case("oid", "int unsigned", "0", "4294967295"),
    case("numeric(65,30)", "decimal(65,30)", "99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001", "0",
         refused={"'NaN'": "range"}),
    case("numeric", "decimal(65,30)", "1.5", "-1e34", "1e-30", "0.10", form="number",
         refused={"1" * 100: "range", "1e-31": "range", "'NaN'": "range", "'Infinity'": "range", "'-Infinity'": "range", "1e35": "range"}),
    case("numeric", "text", "9" * 100 + "." + "9" * 100, "1.10", "-0.5", "'NaN'", "'Infinity'", back=None),
    case("numeric(20,0)", "bigint unsigned", "18446744073709551615", "0", refused={"18446744073709551616": "range", "-1": "range", "'NaN'": "range"}),
    case("real", "float", "1.1", "-3.4028235e38", "1e-45", "'-0'", "16777216", "0.1", form="float",
         refused={"'NaN'": "range", "'Infinity'": "range", "'-Infinity'": "range"}),
    case("double precision", "double", "1.1", "-1.7976931348623157e308", "5e-324", "'-0'", "0.1", "1e15", "123456789012345680", form="float",
         refused={"'NaN'": "range", "'Infinity'": "range", "'-Infinity'": "range"}),
    case("double precision", "float", "0.5", "16777216", "-2e30::float4::float8", form="float", refused={"0.1": "range", "1e300": "range", "16777217": "range"}),
    case("real", "double", "0.1", "1.1", "-3.4028235e38", form="float", refused={"'NaN'": "range"}),
    case("char(10)", "char(10)", "'ab  '", "''", "'ünïcödé'", "'a b'", form="padded"),
    case("varchar(20)", "varchar(20)", "'a  '", "''", "'   '", "'naïve 🎉'", _CONTROL[:18] + "'", form="characters"),
    case("varchar(20)", "varchar(5)", "'žluť😀'", "'a    '", form="characters", refused={"'žluťák😀'": "too_long", "'a     '": "too_long"}),
    case("varchar(20)", "char(20)", "'abc'", "''", "'a b'", "'abc  '", form="padded"),
    case("text", "text", _CONTROL, "''", "'🎉👨‍👩‍👧'", "'\\N'", "'NULL'", "repeat('ä', 32767)", form="characters", refused={"repeat('ä', 32768)": "too_long"}),
    case("text", "longtext", "repeat('0123456789abcdé', 65536)", form="characters"),
    case("text", "varchar(40) CHARACTER SET latin1", "'café €'", "''", form="characters", refused={"'🎉'": "encoding", "'ř'": "encoding"}),
    case("text", "varchar(40) CHARACTER SET utf8mb3", "'日本'", form="characters", refused={"'🎉'": "encoding"}),
    case('"char"', "char(1)", "'a'", "''", form="padded"),
    case("name", "varchar(63)", "'somebody'", "repeat('x', 63)", form="characters"),
    case("bytea", "longblob", r"'\x'", r"'\x00ff270a5c0d'", "decode(repeat('00ff5c27', 262144), 'hex')", form="bytes"),
    case("bytea", "varbinary(4)", r"'\x00'", r"'\x00000000'", form="bytes", refused={r"'\x0000000000'": "too_long"}),
    case("bytea", "binary(4)", r"'\x61000000'", r"'\x00000000'", form="bytes", refused={r"'\x6100000000'": "too_long", r"'\x61'": "range"}),
    case("date", "date", "'0001-01-01'", "'9999-12-31'", "'2024-02-29'", form="moment",
         refused={"'infinity'": "range", "'-infinity'": "range", "'0044-03-15 BC'": "range", "'10000-01-01'": "range"}),
    case("time", "time(6)", "'00:00:00'", "'23:59:59.999999'", "'24:00:00'", "'12:00:00.1'", form="time"),
    case("time", "time", "'23:59:59'", form="time", refused={"'23:59:59.000001'": "range"}),
    case("timetz", "varchar(30)", "'02:30:00.123456-12:30'", form="characters"),
    case("timestamp", "datetime(6)", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2024-03-31 02:30:00'", "'2024-01-01 00:00:00.000001'", form="moment",
         refused={"'infinity'": "range", "'0044-03-15 12:00 BC'": "range", "'10000-01-01'": "range"}),
    case("timestamp", "datetime(3)", "'2024-01-01 10:00:00.123'", form="moment", refused={"'2024-01-01 10:00:00.1234'": "range"}),
    case("timestamptz", "timestamp(6) NULL", "'2024-10-27 02:30:00+02'", "'2024-10-27 02:30:00+01'", "'2024-03-31 01:30:00 Europe/Prague'",
         "'2038-01-19 03:14:07.999999Z'", "'2024-01-01 00:00:00+14'", "'1970-01-01 00:00:01Z'", form="moment",
         refused={"'2038-01-19 03:14:08Z'": "range", "'1970-01-01 00:00:00Z'": "range", "'1969-12-31 23:59:59Z'": "range", "'infinity'": "range"}),
    case("timestamptz", "datetime(6)", "'2024-10-27 02:30:00+02'", "'2124-01-01 00:00:00.000001-11'", "'0001-01-01 00:00:00Z'", form="moment",
         to="{} AT TIME ZONE 'UTC'", back="{} AT TIME ZONE 'UTC'", refused={"'infinity'": "range", "'0044-03-15 12:00 BC'": "range"}),
    case("interval", "varchar(80)", "'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:01'", form="printed"),
    case("uuid", "uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'", form="uuid"),
    case("uuid", "char(36)", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", form="uuid"),
    case("json", "json", '\'{"b": 1, "a": [1.50, null, true], "é🎉": "\\u00e9\\ud83c\\udf89"}\'', "'null'", "'3'", '\'"s"\'', "'[12345678901234567890123, 1e400, 0.1]'", "'[1e99999999999999999999]'",
         '\'{"a": 1, "a": 2}\'', '\'"a\\u0000b"\'', form="json", refused={'\'"\\ud800"\'': "check"}),
    case("jsonb", "json", '\'{"bb": 1, "a": {"z": [], "y": {}}, "n": 12345678901234567890.10}\'', "'null'", "'[1e5, -0.0, 1E-7, 1e500, 0.12345678901234567890123456789012345]'", '\'"back\\\\slash \\n \\" 🎉"\'', form="json"),
    case("mood", "enum('a','b,c','d''e','ü','')", "'a'", "'b,c'", "'d''e'", "'ü'", "''", form="characters"),
    case("mood", "varchar(10)", "'b,c'", "'ü'", form="characters"),
    case("mood", "enum('a','b,c')", "'a'", form="characters", refused={"'ü'": "type"}),
    case("text", "set('x','y','ü')", "''", "'x'", "'x,y,ü'", "'ü,y,x'", "'x,x'", form="set", refused={"'x,w'": "type", "'X'": "type"}),
    case("text", "enum('a','Ab')", "'a'", "'Ab'", form="characters", refused={"'A'": "type", "''": "type", "'1'": "type"}),
    case("bit(8)", "varchar(8)", "'10101010'", form="printed"),
    case("varbit", "varchar(80)", "'1'", "''", form="printed"),
    case("inet", "varchar(50)", "'10.0.0.0/8'", "'2001:db8::1'", form="printed"),
    case("cidr", "varchar(50)", "'10.0.0.0/8'", form="printed"),
    case("macaddr", "varchar(50)", "'08:00:2b:01:02:03'", form="printed"),
    case("money", "varchar(50)", "'-1234.56'", form="printed"),
    case("point", "varchar(80)", "'(1.5,-2)'", form="printed"),
    case("xml", "text", "'<a b=\"1\">é</a>'", form="printed"),
    case("tsvector", "text", "'a fat cat'", form="printed"),
    case("integer[]", "text", "'{1,NULL,-3}'", "'{}'", "'[0:1]={1,2}'", form="printed"),
    case("text[]", "longtext", """ARRAY['a,b', 'q"uote', 'back\\slash', NULL, 'NULL', '', '🎉']""", form="printed"),
    case("int4range", "varchar(80)", "'[1,5)'", "'empty'", "'(,)'", form="printed"),
    case("tstzrange", "varchar(120)", "'[2024-01-01 00:00+02,infinity)'", form="printed"),
    case("pair", "varchar(80)", """ROW(1, 'a,"b')""", form="printed"),
    case("whole", "int", "1", "2147483647"),
    case("short", "varchar(10)", "'ü😀'", "''", form="characters"),
    case("citext", "varchar(40)", "'MiXed Case'", form="characters"),
)  # fmt: skip

MARIADB_TO_POSTGRES = (
    case("tinyint(1)", "boolean", "0", "1", refused={"2": "range", "-1": "range"}, form="bool"),
    case("tinyint(1)", "smallint", "0", "1", "2", "-1"),
    case("tinyint unsigned", "smallint", "0", "255"),
    case("smallint", "smallint", "-32768", "32767"),
    case("smallint unsigned", "integer", "65535"),
    case("mediumint", "integer", "-8388608", "8388607"),
    case("int", "integer", "-2147483648", "2147483647"),
    case("int unsigned", "integer", "2147483647", refused={"2147483648": "range", "4294967295": "range"}),
    case("int unsigned zerofill", "bigint", "4294967295", "7", form="number"),
    case("bigint", "bigint", "-9223372036854775808", "9223372036854775807"),
    case("bigint unsigned", "bigint", "9223372036854775807", "0", refused={"9223372036854775808": "range", "18446744073709551615": "range"}),
    case("bigint unsigned", "numeric(20,0)", "18446744073709551615", "0"),
    case("bigint unsigned", "numeric", "18446744073709551615", "0"),
    case("decimal(65,30)", "numeric(65,30)", "99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001", "0"),
    case("decimal(65,30)", "numeric", "99999999999999999999999999999999999.999999999999999999999999999999", "-1.5", form="number"),
    case("decimal(65,0)", "numeric(65,0)", "9" * 65, "-" + "9" * 65),
    case("decimal(10,2)", "numeric(5,1)", "9999.9", "-0.10", form="number", refused={"0.01": "range", "10000": "range"}),
    case("decimal(10,2) unsigned", "integer", "99999999", form="number", refused={"0.5": "range"}),
    case("float", "real", "1.1", "-3.4028234663852886e38", "1e-45", "16777216", form="float"),
    case("float", "double precision", "0.1", "-3.4028234663852886e38", form="float"),
    case("double", "double precision", "1.1", "-1.7976931348623157e308", "5e-324", "0.1", "1e15", form="float"),
    case("double", "real", "0.5", "16777216", form="float", refused={"0.1": "range", "1e300": "range"}),
    case("bit(1)", "boolean", "b'0'", "b'1'", form="bool"),
    case("bit(64)", "numeric(20,0)", "b'" + "1" * 64 + "'", "0", form="number"),
    case("bit(64)", "bigint", "9223372036854775807", "0", refused={"b'" + "1" * 64 + "'": "range"}, form="number"),
    case("year", "smallint", "1901", "2155", "0", form="number"),
    case("date", "date", "'0001-01-01'", "'9999-12-31'", "'2024-02-29'", form="moment",
         refused={"'0000-00-00'": "range", "'2024-00-10'": "range", "'2024-10-00'": "range", "'0000-01-01'": "range"}),
    case("time(6)", "time", "'00:00:00'", "'23:59:59.999999'", "'24:00:00'", "'12:00:00.1'", form="time",
         refused={"'-00:00:01'": "range", "'838:59:59'": "range", "'24:00:00.000001'": "range", "'-838:59:59'": "range"}),
    case("time(6)", "time(0)", "'12:00:00'", form="time", refused={"'12:00:00.5'": "range"}),
    case("time", "varchar(20)", "'-838:59:59'", "'838:59:59'", "'00:00:00'", form="time", back=None),
    case("datetime(6)", "timestamp", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2024-03-31 02:30:00'", "'2024-01-01 00:00:00.000001'", form="moment",
         refused={"'0000-00-00 00:00:00'": "range", "'2024-00-10 10:00:00'": "range"}),
    case("datetime", "timestamptz", "'2024-10-27 02:30:00'", "'9999-12-31 23:59:59'", form="moment", to="{} AT TIME ZONE 'UTC'", back="{} AT TIME ZONE 'UTC'",
         refused={"'0000-00-00 00:00:00'": "range"}),
    case("datetime(6)", "timestamp(3)", "'2024-01-01 10:00:00.123'", form="moment", refused={"'2024-01-01 10:00:00.1234'": "range"}),
    case("timestamp(6) NULL", "timestamptz", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00.000001'", form="moment",
         refused={"'0000-00-00 00:00:00'": "range"}),
    case("char(10)", "char(10)", "'ab  '", "''", "'ünïcödé'", form="padded"),
    case("char(10)", "varchar(10)", "'ab'", "''", form="characters"),
    case("char(36)", "uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'", form="uuid",
         refused={"'a0eebc99-9c0b-4ef8-bb6d'": "type", "''": "type"}),
    case("varchar(20)", "varchar(20)", "'a  '", "''", "'naïve 🎉'", form="characters", refused={"'a\\0b'": "encoding"}),
    case("varchar(20)", "varchar(5)", "'žluť😀'", form="characters", refused={"'žluťák😀'": "too_long"}),
    case("text", "text", _MY_CONTROL, "''", "'🎉👨‍👩‍👧'", "'\\\\N'", "'NULL'", "repeat('ä', 32767)", form="characters", refused={"'\\0'": "encoding"}),
    case("longtext", "text", "repeat('0123456789abcdé', 65536)", form="characters"),
    case("varchar(20) CHARACTER SET latin1", "text", "'café €'", "x'818D8F909D'", form="characters"),
    case("varchar(20) CHARACTER SET utf16", "text", "'a🎉'", form="characters"),
    case("varchar(20) CHARACTER SET cp1251", "text", "'Привет'", form="characters"),
    case("text COMPRESSED", "text", "repeat('compress me ', 100)", "''", form="characters"),
    case("binary(6)", "bytea", "x'610000'", "x'000000000000'", "x'2020'", "x'ffffffffffff'", form="bytes"),
    case("varbinary(20)", "bytea", "x''", "x'00'", "x'deadbeef00'", form="bytes"),
    case("longblob", "bytea", "repeat(x'00ff5c27', 262144)", "x'5c'", form="bytes"),
    case("enum('a','b,c','d''e','ü','')", "mood", "'a'", "'b,c'", "'d''e'", "'ü'", "''", form="characters"),
    case("enum('a','b')", "varchar(1)", "'a'", form="characters"),
    case("enum('a','q')", "mood", "'a'", form="characters", refused={"'q'": "type"}),
    case("set('x','y','ü')", "text", "''", "'x'", "'x,ü'", "'x,y,ü'", form="characters"),
    case("json", "jsonb", '\'{"bb": 1, "a": [1.50, null, true], "é🎉": "\\\\u00e9\\\\ud83c\\\\udf89"}\'', "'null'", "'[12345678901234567890123, 1e500, 0.12345678901234567890123456789012345]'", form="json",
         refused={'\'{"a": 1, "a": 2}\'': "type", '\'"a\\\\u0000b"\'': "encoding"}),
    case("json", "json", '\'{"a": 1, "a": 2, "b": [ 1e400 ]}\'', '\'"a\\\\u0000b"\'', "'3'", form="json"),
    case("longtext", "jsonb", '\'{"b": 1}\'', form="json", refused={"'{'": "type", "''": "type", "'NaN'": "type"}),
    case("uuid", "uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'ffffffff-ffff-ffff-ffff-ffffffffff00'", "'00000000-0000-0000-0000-000000000000'", form="uuid"),
    case("uuid", "text", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", form="uuid", back="CAST({} AS UUID)"),
    case("inet6", "text", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'", "'::'", form="characters"),
    case("inet4", "varchar(15)", "'192.0.2.1'", "'10.0.0.0'", form="characters"),
    case("point", "text", "ST_GeomFromText('POINT(-1.5 2)')", form="hex text"),
)  # fmt: skip

POSTGRES_TO_POSTGRES = tuple(case(kind, kind, *values) for kind, values in {
    "boolean": ("true", "false"),
    "smallint": ("-32768", "32767"),
    "integer": ("-2147483648", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "oid": ("4294967295",),
    "numeric": ("9" * 100 + "." + "9" * 100, "1.10", "'NaN'", "'Infinity'", "'-Infinity'", "1e-1000", "0.000"),
    "numeric(65,30)": ("99999999999999999999999999999999999.999999999999999999999999999999", "'NaN'"),
    "numeric(3,-2)": ("99900", "-100"),
    "numeric(2,5)": ("0.00099",),
    "real": ("1.1", "-3.4028235e38", "1e-45", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "1e15", "1e6", "1234567.9"),
    "double precision": ("1.1", "-1.7976931348623157e308", "5e-324", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "1e15", "1e16", "123456789012345680"),
    "money": ("'-92233720368547758.08'", "'0.01'"),
    "char(10)": ("'ab  '", "''", "'ünïcödé'"),
    "varchar(20)": ("'a  '", "''", "'naïve 🎉'"),
    "text": (_CONTROL, "''", r"'\N'", r"'\.'", "repeat('0123456789abcdé', 65536)", "'🎉👨‍👩‍👧'"),
    '"char"': ("'a'", "''", r"'\200'"),
    "name": ("'somebody'",),
    "bytea": (r"'\x'", r"'\x00ff270a5c0d'", "decode(repeat('00ff5c27', 262144), 'hex')"),
    "date": ("'0001-01-01'", "'9999-12-31'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'0001-12-31 BC'", "'5874897-12-31'"),
    "time": ("'00:00:00'", "'23:59:59.999999'", "'24:00:00'"),
    "time(3)": ("'12:00:00.12'",),
    "timetz": ("'02:30:00.123456-12:30'", "'24:00:00+00'"),
    "timestamp": ("'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'2024-03-31 02:30:00.1'"),
    "timestamp(0)": ("'2024-01-01 10:00:00'",),
    "timestamptz": ("'2024-10-27 02:30:00+02'", "'2024-10-27 02:30:00+01'", "'infinity'", "'0044-03-15 12:00:00.000001+01 BC'", "'294276-12-31 23:59:59.999999Z'"),
    "interval": ("'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:00.000001'", "'178000000 years'", "'0'"),
    "interval day to second(3)": ("'1 day 02:03:04.567'",),
    "uuid": ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"),
    "json": ('\'{"b": 1, "a": [1.50, null],  "b": 2}\'', "'null'", "'[1e400]'", '\'"a\\u0000b \\ud800"\''),
    "jsonb": ('\'{"bb": 1, "a": {"z": [], "y": {}}, "n": 12345678901234567890.10}\'', "'[1e400, -0.0]'", '\'"\\u00e9 🎉 \\\\ \\""\''),
    "mood": ("'a'", "'b,c'", "'d''e'", "'ü'", "''"),
    "mood[]": ("""ARRAY['b,c', 'd''e', NULL, '']::mood[]""",),
    "bit(8)": ("'10101010'",),
    "varbit": ("'1'", "''", "repeat('10', 500)::varbit"),
    "inet": ("'10.0.0.0/8'", "'2001:db8::1'", "'10.1.2.3'"),
    "cidr": ("'10.0.0.0/8'", "'::/0'"),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'",),
    "point": ("'(1.5,-2)'", "'(NaN,Infinity)'"),
    "box": ("'(3,4),(1,2)'",),
    "path": ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
    "polygon": ("'((0,0),(1,1),(1,0))'",),
    "circle": ("'<(1,2),3>'",),
    "tsvector": ("'a fat:1A cat:2'",),
    "tsquery": ("'fat & (rat | !cat:*)'",),
    "integer[]": ("'{1,NULL,-3}'", "'{}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'"),
    "text[]": (r"""ARRAY['a,b', 'q"uote', 'back\slash', NULL, 'NULL', '', '🎉', ' pad ', E'\n']""",),
    "numeric[]": ("'{1.10,NaN}'",),
    "timestamptz[]": ("'{2024-10-27 02:30:00+02,infinity}'",),
    "bytea[]": (r"ARRAY['\x00ff', '\x']::bytea[]",),
    "jsonb[]": ("""ARRAY['{"a": 1}', 'null']::jsonb[]""",),
    "int4range": ("'[1,5)'", "'empty'", "'(,)'"),
    "numrange": ("'[1.10,)'",),
    "daterange": ("'[2024-01-01,infinity)'",),
    "tstzrange": ("'[2024-01-01 00:00+02,2024-06-01 00:00+02]'",),
    "int4multirange": ("'{[1,3),[5,6)}'", "'{}'"),
    "pair": ("""ROW(1, 'a,"b\\c')""", "ROW(NULL, '')"),
    "whole": ("1",),
    "short": ("'ü😀'", "''"),
    "whole[]": ("'{1,2}'",),
    "citext": ("'MiXed Case'", "''"),
    "pg_lsn": ("'16/B374D848'",),
}.items())  # fmt: skip

MARIADB_TO_MARIADB = tuple(case(kind, kind, *values, form=form) for kind, form, *values in (
    ("tinyint(1)", "text", "0", "1", "2", "-128"),
    ("tinyint unsigned", "text", "255"),
    ("smallint", "text", "-32768"),
    ("mediumint unsigned", "text", "16777215"),
    ("int unsigned zerofill", "text", "4294967295", "7"),
    ("bigint", "text", "-9223372036854775808"),
    ("bigint unsigned", "text", "18446744073709551615", "0"),
    ("decimal(65,30)", "text", "99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001", "0"),
    ("decimal(38,38)", "text", "-0.99999999999999999999999999999999999999"),
    ("decimal(20,0) unsigned", "text", "18446744073709551616"),
    ("float", "float", "1.1", "-3.4028234663852886e38", "1e-45", "0", "16777216", "100000", "1234567.9"),
    ("double", "float", "1.1", "-1.7976931348623157e308", "5e-324", "0.1", "1e15", "123456789012345680"),
    ("float(7,3)", "text", "1234.567"),
    ("double(10,2)", "text", "12345678.91"),
    ("bit(1)", "number", "b'0'", "b'1'"),
    ("bit(9)", "number", "b'101010101'"),
    ("bit(64)", "number", "b'" + "1" * 64 + "'", "0"),
    ("year", "text", "1901", "2155", "0"),
    ("date", "text", "'0001-01-01'", "'9999-12-31'", "'0000-00-00'", "'2024-00-10'", "'2024-05-00'"),
    ("time", "text", "'-838:59:59'", "'838:59:59'", "'24:00:00'", "'-00:00:01'"),
    ("time(6)", "text", "'-838:59:59.999999'", "'-00:00:00.000001'", "'12:34:56.789'"),
    ("datetime", "text", "'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'"),
    ("datetime(6)", "text", "'2024-12-31 23:59:59.999999'", "'2024-00-05 01:00:00.5'", "'2024-01-01 00:00:00'"),
    ("timestamp NULL", "text", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"),
    ("timestamp(6) NULL", "text", "'2038-01-19 03:14:07.999999'", "'2024-10-27 00:30:00.1'", "'2024-10-27 01:30:00'"),
    ("char(10)", "characters", "'ab  '", "''", "'ünïcödé'"),
    ("varchar(20)", "characters", "'a  '", "''", "'naïve 🎉'", "'a\\0b'"),
    ("text", "characters", _MY_CONTROL, "'\\\\N'", "'\\0'", "repeat('ä', 32767)"),
    ("longtext", "characters", "repeat('0123456789abcdé', 65536)"),
    ("varchar(20) CHARACTER SET latin1", "characters", "'café €'", "x'818D8F909D'"),
    ("varchar(20) CHARACTER SET sjis", "characters", "'日本'"),
    ("varchar(20) CHARACTER SET utf16", "characters", "'a🎉'"),
    ("text COMPRESSED", "characters", "repeat('compress me ', 100)", "''"),
    ("binary(6)", "bytes", "x'610000'", "x'000000000000'", "x'2020'"),
    ("varbinary(20)", "bytes", "x''", "x'00'", "x'deadbeef00'"),
    ("longblob", "bytes", "repeat(x'00ff5c27', 262144)", "x'5c'"),
    ("enum('a','b,c','d''e','ü','')", "characters", "'a'", "'b,c'", "'d''e'", "'ü'", "''"),
    ("set('x','y','d''e','ü')", "characters", "''", "'x'", "'x,d\\'e,ü'"),
    ("json", "json", '\'{"a": 1, "a": 2, "b": [ 1e400, 1.50 ]}\'', '\'"a\\\\u0000b"\'', "'null'"),
    ("uuid", "text", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'ffffffff-ffff-ffff-ffff-ffffffffff00'"),
    ("inet6", "text", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.1'", "'::'"),
    ("inet4", "text", "'0.0.0.0'", "'10.0.0.0'"),
    ("geometry", "bytes", "ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0 0,1 1)')"),
    ("point", "bytes", "ST_GeomFromText('POINT(-1.5 2)')"),
))  # fmt: skip

# What stands in for the cases with `json` where MySQL is in MariaDB's place: it keeps the numbers of a document in 64 bits and one value of each member.
TO_MYSQL_JSON = (
    case("json", "json", '\'{"b": 1, "a": [1.50, null, true], "é🎉": "\\u00e9\\ud83c\\udf89"}\'', "'null'", "'3'", '\'"s"\'', '\'"a\\u0000b"\'', form="json",
         refused={"'[1, 12345678901234567890123]'": "range", "'[1e400]'": "range", '\'{"a": 1, "a": 2}\'': "type", '\'"\\ud800"\'': "type"}),
    case("jsonb", "json", '\'{"bb": 1, "a": {"z": [], "y": {}}, "n": 0.10}\'', "'null'", "'[1e5, -0.0, 1E-7, 1e300, 18446744073709551615, 1e23]'", form="json",
         refused={"'[1e500]'": "range", "'0.12345678901234567890123456789012345'": "range", "'18446744073709551617'": "range"}),
)  # fmt: skip
FROM_MYSQL_JSON = (
    case("json", "jsonb", '\'{"bb": 1, "a": [1.50, null, true], "é🎉": "\\\\u00e9\\\\ud83c\\\\udf89"}\'', "'[1e5, -0.0, 1E-7, 1e300, 18446744073709551615]'", form="json",
         refused={'\'"a\\\\u0000b"\'': "encoding"}),
    case("json", "json", '\'{"a": 1, "b": [ 1e300 ]}\'', '\'"a\\\\u0000b"\'', "'3'", "JSON_OBJECT('d', CAST(1.50 AS DECIMAL(5,2)), 'b', repeat(x'01ff', 100))", form="json"),
    case("json", "text", "'[1e15, 1e-7, 123456789012345678.5, 100000000000000.5, 0.1]'", "JSON_OBJECT('b', repeat(x'01ff', 100))", form="characters"),
)  # fmt: skip
MYSQL_JSON = (case("json", "json", '\'{"b": [ 1e300, 1.50 ], "a": 1}\'', '\'"a\\\\u0000b"\'', "'null'", form="json"),)

ROUTES = {
    "PostgreSQL to MariaDB": POSTGRES_TO_MARIADB,
    "MariaDB to PostgreSQL": MARIADB_TO_POSTGRES,
}


def pairs(cases: tuple[Case, ...]) -> str:
    """The pairings as the table of `docs/types.md`."""
    lines = ["| from | to | set aside, with code |", "|---|---|---|"]
    for case in cases:
        into = f"`{case.target}`" if case.to == "{}" else f"`{case.target}`, written `{case.to.format('x')}`"
        aside: dict[str, list[str]] = {}
        for literal, code in case.refused.items():
            aside.setdefault(code, []).append(f"`{literal}`" if len(literal) < 32 else f"`{literal[:12]}...` ({len(literal)} characters)")
        lines.append(f"| `{case.source}` | {into} | {'; '.join(', '.join(literals) + ' ' + code for code, literals in aside.items())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(f"### {title}\n\n{pairs(cases)}" for title, cases in ROUTES.items()))
