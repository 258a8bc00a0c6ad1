/* Jacobian of bundle adjustment's residuals, as a matrix of compressed rows: for each observation two
 * reverse sweeps that share what was computed forward. */
#include <math.h>

static double dot(const double *a, const double *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static void cross(const double *a, const double *b, double *restrict out) {
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

/* Two rows of 15: by the camera's 11 numbers, the point and the weight. */
static void block(const double *restrict camera, const double *restrict point, double weight,
                  const double *restrict feature, double *restrict rows) {
    const double *r = camera, *k = camera + 9;
    const double focal = camera[6];
    double d[3], turned[3], p[3];
    for (int i = 0; i < 3; i++) d[i] = point[i] - camera[3 + i];
    const double square = dot(r, r), angle = sqrt(square);
    double cosine = 1, sine = 1, one = 0, by_sine = 0, by_one = 0;
    if (square != 0) {
        cosine = cos(angle);
        sine = sin(angle) / angle;
        one = (1 - cosine) / square;
        by_sine = (cosine - sine) / square;
        by_one = (sine - 2 * one) / square;
    }
    const double inner = dot(r, d), along = one * inner;
    cross(r, d, turned);
    for (int i = 0; i < 3; i++) p[i] = d[i] * cosine + turned[i] * sine + r[i] * along;
    const double deep = 1 / p[2], u[2] = {p[0] * deep, p[1] * deep};
    const double radius = u[0] * u[0] + u[1] * u[1];
    const double lens = 1 + radius * (k[0] + radius * k[1]), scale = focal * lens;

    for (int o = 0; o < 2; o++) {
        double *restrict row = rows + 15 * o;
        const double g_scale = weight * u[o], g_lens = g_scale * focal;
        const double g_radius = g_lens * (k[0] + 2 * k[1] * radius);
        double g_u[2] = {2 * g_radius * u[0], 2 * g_radius * u[1]}, around[3], back[3];
        g_u[o] += weight * scale;
        const double g[3] = {g_u[0] * deep, g_u[1] * deep,
                             -(g_u[0] * u[0] + g_u[1] * u[1]) * deep};
        const double g_r = dot(g, r);
        double by_angle = dot(g, turned) * by_sine + g_r * inner * by_one;
        if (square != 0) by_angle -= dot(g, d) * sine;
        cross(d, g, around);
        cross(g, r, back);
        for (int i = 0; i < 3; i++) {
            const double g_d = g[i] * cosine + back[i] * sine + r[i] * g_r * one;
            row[i] = around[i] * sine + g[i] * along + d[i] * one * g_r + r[i] * by_angle;
            row[3 + i] = -g_d;
            row[11 + i] = g_d;
        }
        row[6] = g_scale * lens;
        row[7] = o ? 0 : weight;
        row[8] = o ? weight : 0;
        row[9] = g_lens * radius;
        row[10] = g_lens * radius * radius;
        row[14] = u[o] * scale + camera[7 + o] - feature[o];
    }
}

void ba(const double *restrict cameras, const double *restrict points,
        const double *restrict weights, const long *restrict seen, const double *restrict features,
        long n, long m, long p, double *restrict values, long *restrict columns) {
    for (long i = 0; i < p; i++) {
        const long camera = seen[2 * i], point = seen[2 * i + 1];
        block(cameras + 11 * camera, points + 3 * point, weights[i], features + 2 * i,
              values + 30 * i);
        for (long o = 0; o < 2; o++) {
            long *restrict row = columns + 30 * i + 15 * o;
            for (long a = 0; a < 11; a++) row[a] = 11 * camera + a;
            for (long a = 0; a < 3; a++) row[11 + a] = 11 * n + 3 * point + a;
            row[14] = 11 * n + 3 * m + i;
        }
        values[30 * p + i] = -2 * weights[i];
        columns[30 * p + i] = 11 * n + 3 * m + i;
    }
}
