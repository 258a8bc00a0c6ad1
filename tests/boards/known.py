"""A C function whose memory is known by hand, in the shape of an export: what the probe must find in it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LOCAL", "TOUCHED", "WORK", "write"]

WORK, TOUCHED, LOCAL = 128, 100, 480

HEADER = """\
#include <stddef.h>
#include <stdint.h>
#define KNOWN_N_IN 1
#define KNOWN_N_OUT 2
#define KNOWN_WORK_BYTES {work}
#define KNOWN_IN0_TYPE float
#define KNOWN_OUT0_TYPE float
#define KNOWN_OUT0_SIZE 3
#define KNOWN_OUT1_TYPE float
#define KNOWN_OUT1_SIZE 3
#define KNOWN_OUT1_UPDATES 0
int known(const float *const *in, float *const *out, void *work);
"""

SOURCE = """\
#include "known.h"
int known(const float *const *in, float *const *out, void *work) {{
    volatile unsigned char local[{local}];
    volatile unsigned char *const scratch = (volatile unsigned char *)work;
    float *const updated = out[1] != NULL ? out[1] : (float *)in[0];
    int k;
    for (k = 0; k < {local}; k++) local[k] = (unsigned char)k;
    for (k = 0; k < {touched}; k++) scratch[k] = local[k];
    for (k = 0; k < 3; k++) {{
        if (out[0] != NULL) out[0][k] = 0.1f * in[0][k];
        updated[k] = in[0][k] + 1.0f;
    }}
    return 0;
}}
"""

TEST = """\
#include "known.h"
int main(void) {{
    static float x[3] = {{1.0f, 2.0f, {last}}}, y[3];
    static uint32_t work[{work} / 4];
    const float *in[1];
    float *out[2];
    in[0] = x;
    out[0] = y;
    out[1] = NULL;
    return known(in, out, work) != 0 || known(in, out, work) != 0 || x[0] != 3.0f || y[1] != 0.1f * 3.0f;
}}
"""


def write(folder: Path, last: str = "3.0f") -> None:
    """Write ``known.c``, ``known.h`` and ``known_test.c``; `last` is an argument's last element."""
    words = {"work": WORK, "touched": TOUCHED, "local": LOCAL, "last": last}
    for name, text in (("known.h", HEADER), ("known.c", SOURCE), ("known_test.c", TEST)):
        (folder / name).write_text(text.format(**words))
