/* Where a charge must be for a path to cross the axis at zero: the path's tangent by hand, in a descent. */
#include "descent.h"

#define STEP 0.1

static double path(const double *w, double *gradient, const void *context) {
    (void)context;
    double x[2] = {0, 8}, v[2] = {0.75, 0}, x_dot[2] = {0, 0}, v_dot[2] = {0, 0};
    while (x[1] + STEP * v[1] > 0) {
        double force[2] = {0, 0}, change[2] = {0, 0};
        for (int charge = 0; charge < 2; charge++) {
            const double at = charge ? 0 : 10 - w[0], moves = charge ? 0 : -1;
            const double d[2] = {x[0] - 10, x[1] - at};
            const double d_dot[2] = {x_dot[0], x_dot[1] - moves};
            const double square = d[0] * d[0] + d[1] * d[1];
            const double cube = 1 / (square * sqrt(square));
            const double cube_dot = -3 * cube / square * (d[0] * d_dot[0] + d[1] * d_dot[1]);
            for (int i = 0; i < 2; i++) {
                force[i] += d[i] * cube;
                change[i] += d_dot[i] * cube + d[i] * cube_dot;
            }
        }
        for (int i = 0; i < 2; i++) {
            x[i] += STEP * v[i];
            x_dot[i] += STEP * v_dot[i];
            v[i] += STEP * force[i];
            v_dot[i] += STEP * change[i];
        }
    }
    const double time = -x[1] / v[1];
    const double time_dot = -x_dot[1] / v[1] + x[1] * v_dot[1] / (v[1] * v[1]);
    const double end = x[0] + time * v[0];
    gradient[0] = 2 * end * (x_dot[0] + time_dot * v[0] + time * v_dot[0]);
    return end * end;
}

void particle(const double *start, double *result) { descend(path, 0, 1, start, result); }
