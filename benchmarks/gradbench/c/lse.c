/* Gradient of log(sum(exp(x))): one exponential an element, kept where the result goes. */
#include <math.h>

void lse(const double *restrict x, long n, double *restrict gradient) {
    double most = -INFINITY, sum = 0;
    for (long i = 0; i < n; i++)
        if (x[i] > most) most = x[i];
    for (long i = 0; i < n; i++) {
        gradient[i] = exp(x[i] - most);
        sum += gradient[i];
    }
    const double scale = 1 / sum;
    for (long i = 0; i < n; i++) gradient[i] *= scale;
}
