/* The gradient descent that particle and saddle share: the step doubles after ten steps that went down,
 * and halves after one that did not. */
#include <math.h>

typedef double (*Objective)(const double *x, double *gradient, const void *context);

#define SHORT 1e-5
#define MOST 4

static inline void descend(Objective f, const void *context, long n, const double *start,
                           double *x) {
    double gradient[MOST], new_x[MOST], new_gradient[MOST], eta = SHORT;
    long count = 0;
    for (long i = 0; i < n; i++) x[i] = start[i];
    double value = f(x, gradient, context);
    for (;;) {
        double length = 0;
        for (long i = 0; i < n; i++) length += gradient[i] * gradient[i];
        length = sqrt(length);
        if (count == 10) {
            eta *= 2;
            count = 0;
        }
        if (length <= SHORT || eta * length <= SHORT) return;
        for (long i = 0; i < n; i++) new_x[i] = x[i] - eta * gradient[i];
        const double new_value = f(new_x, new_gradient, context);
        if (new_value < value) {
            for (long i = 0; i < n; i++) {
                x[i] = new_x[i];
                gradient[i] = new_gradient[i];
            }
            value = new_value;
            count += 1;
        } else {
            eta /= 2;
            count = 0;
        }
    }
}
