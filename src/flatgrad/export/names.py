"""Words that go into generated files: identifiers, comments, string literals. No name can become code."""

from __future__ import annotations

import builtins
import keyword
import re
import sys

from ..errors import ArgumentError

__all__ = ["c_string", "given_name", "identifier", "is_free", "line", "macro"]

LONGEST = 31  # what C99 promises to tell apart in external names

_C = """auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while asm typeof fortran far near huge interface linux unix vax sun i386 arm mips main NULL
EOF errno assert offsetof setjmp va_start va_arg va_end va_copy true false bool complex imaginary I
alignas alignof atomic constexpr nullptr static_assert thread_local noreturn"""

_CPP = """and and_eq bitand bitor catch char16_t char32_t char8_t class compl concept const_cast co_await
co_return co_yield decltype delete dynamic_cast explicit export friend module mutable namespace new
noexcept not not_eq operator or or_eq private protected public reinterpret_cast requires std
template this throw try typeid typename using virtual wchar_t xor xor_eq"""

# C's library: functions that compilers know, or that the program's files may be linked with.
_MATH = """acos asin atan atan2 cos sin tan acosh asinh atanh cosh sinh tanh exp exp2 expm1 frexp ilogb ldexp
log log10 log1p log2 logb modf scalbn scalbln cbrt fabs hypot pow sqrt erf erfc lgamma tgamma ceil
floor nearbyint rint lrint llrint round lround llround trunc fmod remainder remquo copysign nan
nextafter nexttoward fdim fmax fmin fma exp10 pow10 gamma j0 j1 jn y0 y1 yn drem significand scalb
sincos"""

_LIBRARY = """abort abs atexit atof atoi atol atoll bsearch calloc clearerr clock ctime difftime div environ
exit fclose feof ferror fflush fgetc fgetpos fgets fopen fork fprintf fputc fputs fread free freopen
fscanf fseek fsetpos ftell fwrite getc getchar getenv gets gmtime isalnum isalpha isascii isblank
iscntrl isdigit isgraph isinf islower isnan isfinite isnormal isprint ispunct isspace isupper
isxdigit signbit fpclassify index kill labs ldiv llabs lldiv link localeconv localtime longjmp
malloc mblen mbtowc memccpy memchr memcmp memcpy memmove memset mktime perror pipe printf putc
putchar puts qsort raise rand read realloc remove rename rewind rindex scanf select send setbuf
setlocale setvbuf signal sleep socket sprintf snprintf srand sscanf stat stderr stdin stdout stpcpy
strcasecmp strcat strchr strcmp strcoll strcpy strcspn strdup strerror strftime strlen strncat
strncmp strncpy strpbrk strrchr strspn strstr strtod strtof strtok strtol strtoul strxfrm system
time times tmpfile tmpnam tolower toupper ungetc unlink vfprintf vprintf vsprintf vsnprintf wait
write alloca bcmp bcopy bzero ffs daylight timezone tzname signgam open close dup access environ
abort exit"""

RESERVED = frozenset(
    [
        *(_C + " " + _CPP + " " + _LIBRARY).split(),
        *[f + end for f in _MATH.split() for end in ("", "f", "l")],
        *[f"c{f}" + end for f in _MATH.split() for end in ("", "f", "l")],
        # The loader is a Python module beside its library: it must not hide one that it imports,
        # and the function in it nothing that it uses.
        *keyword.kwlist,
        *dir(builtins),
        *sys.stdlib_module_names,
        *("numpy", "np", "flatgrad", "numba", "scipy", "in", "out", "work", "load", "find"),
        *("Function", "ProgramError", "NAME", "DIGEST", "INPUTS", "OUTPUTS", "UPDATES", "ERRORS"),
        *("WORK", "ALIGN", "ARGUMENTS", "KEYWORDS", "RESULT"),
    ]
)

# Prefixes and endings that C, its compilers, or our own helpers keep for themselves.
_KEPT = re.compile(
    r"^(_|fg_|FG_|FLATGRAD|str[a-z]|mem[a-z]|wcs[a-z]|is[a-z]|to[a-z]|u?int\d)|_t$|_(MAX|MIN|C)$"
)


def is_free(word: str) -> bool:
    """Whether a C function, a C++ function and a Python module may have this name, anywhere."""
    return word not in RESERVED and not _KEPT.search(word)


def identifier(name: str, taken: set[str] | None = None) -> str:
    """A C and Python identifier that resembles `name`.

    Only ASCII letters, digits and underscores survive; a word that is reserved gets ``f_`` in front.
    If `taken` is given, the identifier is none of these, and is added to them.
    """
    word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:LONGEST].rstrip("_") or "function"
    if word[0].isdigit() or not is_free(word):
        word = f"f_{word}"[:LONGEST]
    if taken is None:
        return word
    found, count = word, 1
    while found in taken:
        count += 1
        end = f"_{count}"
        found = word[: LONGEST - len(end)] + end
    taken.add(found)
    return found


def macro(name: str, taken: set[str]) -> str:
    """The part of a macro's name that stands for an argument: ``PARAMS_W`` of ``params['w']``."""
    word = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").upper()[:LONGEST].rstrip("_") or "X"
    found, count = word, 1
    while found in taken:
        count += 1
        found = f"{word}_{count}"
    taken.add(found)
    return found


def given_name(name: str) -> str:
    """The identifier for `name`, which the user asked for.

    Raises
    ------
    ArgumentError
        If it is no text.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"export: name must be a str, got {type(name).__name__}")
    return identifier(name)


def line(text: str, longest: int = 200) -> str:
    """`text` on one line of printable ASCII, which no Markdown and no comment reads as more than text."""
    text = "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in str(text))
    for mark, other in (("`", "'"), ("|", "/"), ("<", "("), (">", ")"), ("\\", "/"), ("$", "S")):
        text = text.replace(mark, other)
    text = re.sub(r"\?(?=\?)", "? ", text.replace("*/", "* /").replace("/*", "/ *"))
    return text if len(text) <= longest else text[: longest - 3] + "..."


def c_string(text: str, longest: int = 400) -> str:
    """`text` as a C string literal: UTF-8, everything that is not plain as an octal escape."""
    data = text.encode("utf-8", "replace")[:longest]
    plain = (
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-+=.,:;()[]{}'/<>*&!#@^~|"
    )
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in data) + '"'
