/* The least of a greatest value: descent in descent, gradients by hand. */
#include "descent.h"

static double inner(const double *y, double *gradient, const void *context) {
    const double *x = context;
    for (long i = 0; i < 2; i++) gradient[i] = 2 * y[i];
    return y[0] * y[0] + y[1] * y[1] - x[0] * x[0] - x[1] * x[1];
}

/* The best y does not depend on x, so the outer gradient is that of |x|**2 alone. */
static double outer(const double *x, double *gradient, const void *context) {
    double y[2];
    descend(inner, x, 2, context, y);
    for (long i = 0; i < 2; i++) gradient[i] = 2 * x[i];
    return x[0] * x[0] + x[1] * x[1] - y[0] * y[0] - y[1] * y[1];
}

void saddle(const double *start, double *result) {
    descend(outer, start, 2, start, result);
    descend(inner, result, 2, start, result + 2);
}
