/* Gradient of the last component of a cascade after Runge-Kutta steps, by its rates.
 *
 * The states before the steps are kept; a step's stages are computed again on the way back. */
#include <string.h>

/* slope[i] = x[i] * (y[i-1] + h * before[i-1]), with 1 in front of the first. */
static void stage(long n, double h, const double *restrict x, const double *restrict y,
                  const double *restrict before, double *restrict slope) {
    slope[0] = x[0];
    for (long i = 1; i < n; i++) slope[i] = x[i] * (y[i - 1] + h * before[i - 1]);
}

static void first(long n, const double *restrict x, const double *restrict y,
                  double *restrict slope) {
    slope[0] = x[0];
    for (long i = 1; i < n; i++) slope[i] = x[i] * y[i - 1];
}

/* The adjoint of a stage: `g` is its slope's; adds to the gradient, and gives its point's. */
static void pull(long n, double h, const double *restrict x, const double *restrict y,
                 const double *restrict before, const double *restrict g,
                 double *restrict g_point, double *restrict gradient) {
    gradient[0] += g[0];
    for (long i = 1; i < n; i++) {
        gradient[i] += g[i] * (y[i - 1] + h * before[i - 1]);
        g_point[i - 1] = x[i] * g[i];
    }
    g_point[n - 1] = 0;
}

/* `work` holds (s + 9) n numbers. */
void ode(const double *restrict x, long n, long s, double *restrict work,
         double *restrict gradient) {
    const double h = 2.0 / s;
    double *restrict past = work, *restrict k1 = past + (s + 1) * n, *restrict k2 = k1 + n;
    double *restrict k3 = k2 + n, *restrict k4 = k3 + n, *restrict g = k4 + n;
    double *restrict g_slope = g + n, *restrict g_point = g_slope + n, *restrict g_y = g_point + n;

    memset(past, 0, n * sizeof *past);
    for (long t = 0; t < s; t++) {
        const double *restrict y = past + t * n;
        double *restrict next = past + (t + 1) * n;
        first(n, x, y, k1);
        stage(n, h / 2, x, y, k1, k2);
        stage(n, h / 2, x, y, k2, k3);
        stage(n, h, x, y, k3, k4);
        for (long i = 0; i < n; i++)
            next[i] = y[i] + h / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
    }

    memset(gradient, 0, n * sizeof *gradient);
    memset(g, 0, n * sizeof *g);
    g[n - 1] = 1;
    for (long t = s - 1; t >= 0; t--) {
        const double *restrict y = past + t * n;
        first(n, x, y, k1);
        stage(n, h / 2, x, y, k1, k2);
        stage(n, h / 2, x, y, k2, k3);
        for (long i = 0; i < n; i++) g_slope[i] = h / 6 * g[i];
        pull(n, h, x, y, k3, g_slope, g_point, gradient);
        for (long i = 0; i < n; i++) {
            g_y[i] = g[i] + g_point[i];
            g_slope[i] = h / 3 * g[i] + h * g_point[i];
        }
        pull(n, h / 2, x, y, k2, g_slope, g_point, gradient);
        for (long i = 0; i < n; i++) {
            g_y[i] += g_point[i];
            g_slope[i] = h / 3 * g[i] + h / 2 * g_point[i];
        }
        pull(n, h / 2, x, y, k1, g_slope, g_point, gradient);
        for (long i = 0; i < n; i++) {
            g_y[i] += g_point[i];
            g_slope[i] = h / 6 * g[i] + h / 2 * g_point[i];
        }
        gradient[0] += g_slope[0];
        for (long i = 1; i < n; i++) {
            gradient[i] += g_slope[i] * y[i - 1];
            g_y[i - 1] += x[i] * g_slope[i];
        }
        memcpy(g, g_y, n * sizeof *g);
    }
}
