/* Gradient of a determinant by Laplace's expansion. */
#include <string.h>

/* Expansion along the first row left; `columns` are those left, `rest` what multiplies this minor. The
 * minor's value is returned; `gradient` gets what each element of the row below adds to it.
 * A minor's adjoint is known before it is expanded, as the determinant is linear in each row. */
static double expand(const double *restrict a, long n, long row, const long *restrict columns,
                     double rest, double *restrict gradient) {
    const long left = n - row;
    if (left == 1) {
        gradient[row * n + columns[0]] += rest;
        return a[row * n + columns[0]];
    }
    long fewer[16];
    for (long j = 1; j < left; j++) fewer[j - 1] = columns[j];
    double value = 0, sign = 1;
    for (long j = 0; j < left; j++) {
        const double element = a[row * n + columns[j]];
        const double minor = expand(a, n, row + 1, fewer, rest * sign * element, gradient);
        gradient[row * n + columns[j]] += rest * sign * minor;
        value += sign * element * minor;
        sign = -sign;
        if (j + 1 < left) fewer[j] = columns[j];
    }
    return value;
}

void det(const double *restrict a, long n, double *restrict gradient) {
    long columns[16];
    for (long j = 0; j < n; j++) columns[j] = j;
    memset(gradient, 0, n * n * sizeof *gradient);
    expand(a, n, 0, columns, 1, gradient);
}

/* The same minors, each computed once: minor[set] of the last rows, for sets of columns as bits.
 * `work` holds 2 * 2**n numbers. */
void det_sets(const double *restrict a, long n, double *restrict work, double *restrict gradient) {
    const long sets = 1L << n;
    double *restrict minor = work, *restrict adjoint = work + sets;
    memset(gradient, 0, n * n * sizeof *gradient);
    memset(adjoint, 0, sets * sizeof *adjoint);
    minor[0] = 1;
    for (long set = 1; set < sets; set++) {
        const double *restrict row = a + (n - __builtin_popcountl(set)) * n;
        double value = 0, sign = 1;
        for (long left = set; left; left &= left - 1) {
            value += sign * row[__builtin_ctzl(left)] * minor[set ^ (left & -left)];
            sign = -sign;
        }
        minor[set] = value;
    }
    adjoint[sets - 1] = 1;
    for (long set = sets - 1; set; set--) {
        const long at = (n - __builtin_popcountl(set)) * n;
        double part = adjoint[set];
        for (long left = set; left; left &= left - 1) {
            const long j = __builtin_ctzl(left), without = set ^ (left & -left);
            gradient[at + j] += part * minor[without];
            adjoint[without] += part * a[at + j];
            part = -part;
        }
    }
}
