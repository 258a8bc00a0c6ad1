/* Gradient of a Gaussian mixture's log-likelihood, with a Wishart prior.
 *
 * One pass over the points. A point's y = Q (x - mu) of every component is kept until its weights
 * are known; then they go into the sums of w y and of w y (x - mu)^T, from which the
 * gradient is made at the end. Triangles are stored column by column. */
#include <math.h>
#include <string.h>

#define GAMMA 1.0

static void softmax(long k, double *restrict v) {
    double most = v[0], sum = 0;
    for (long c = 1; c < k; c++)
        if (v[c] > most) most = v[c];
    for (long c = 0; c < k; c++) {
        v[c] = exp(v[c] - most);
        sum += v[c];
    }
    const double scale = 1 / sum;
    for (long c = 0; c < k; c++) v[c] *= scale;
}

/* `work` holds k (1 + 4 d) numbers. */
void gmm(const double *restrict alpha, const double *restrict mu, const double *restrict q,
         const double *restrict lower, const double *restrict x, long k, long d, long n,
         double *restrict work, double *restrict g_alpha, double *restrict g_mu,
         double *restrict g_q, double *restrict g_lower) {
    const long t = d * (d - 1) / 2;
    double *restrict weight = work, *restrict diagonal = weight + k;
    double *restrict centered = diagonal + k * d, *restrict y = centered + k * d;
    double *restrict y_sum = y + k * d;

    for (long i = 0; i < k * d; i++) diagonal[i] = exp(q[i]);
    memset(y_sum, 0, k * d * sizeof *y_sum);
    memset(g_alpha, 0, k * sizeof *g_alpha);
    memset(g_q, 0, k * d * sizeof *g_q);
    memset(g_lower, 0, k * t * sizeof *g_lower);

    for (long i = 0; i < n; i++) {
        for (long c = 0; c < k; c++) {
            double *restrict yc = y + c * d, *restrict xc = centered + c * d;
            double sum = 0, square = 0;
            for (long a = 0; a < d; a++) {
                xc[a] = x[i * d + a] - mu[c * d + a];
                yc[a] = diagonal[c * d + a] * xc[a];
                sum += q[c * d + a];
            }
            const double *restrict column = lower + c * t;
            for (long a = 0; a < d; a++) {
                for (long b = a + 1; b < d; b++) yc[b] += column[b - a - 1] * xc[a];
                column += d - a - 1;
            }
            for (long a = 0; a < d; a++) square += yc[a] * yc[a];
            weight[c] = alpha[c] + sum - 0.5 * square;
        }
        softmax(k, weight);
        for (long c = 0; c < k; c++) {
            double *restrict yc = y + c * d, *restrict xc = centered + c * d;
            g_alpha[c] += weight[c];
            for (long a = 0; a < d; a++) {
                yc[a] *= weight[c];
                y_sum[c * d + a] += yc[a];
                g_q[c * d + a] -= yc[a] * xc[a];
            }
            double *restrict column = g_lower + c * t;
            for (long a = 0; a < d; a++) {
                for (long b = a + 1; b < d; b++) column[b - a - 1] -= yc[b] * xc[a];
                column += d - a - 1;
            }
        }
    }

    for (long c = 0; c < k; c++) {
        const double *restrict column = lower + c * t, *restrict s = y_sum + c * d;
        for (long a = 0; a < d; a++) {
            const double e = diagonal[c * d + a];
            double by_mu = e * s[a];
            for (long b = a + 1; b < d; b++) by_mu += column[b - a - 1] * s[b];
            column += d - a - 1;
            g_mu[c * d + a] = by_mu;
            g_q[c * d + a] = g_alpha[c] + g_q[c * d + a] * e - GAMMA * GAMMA * e * e;
        }
        weight[c] = alpha[c];
    }
    for (long i = 0; i < k * t; i++) g_lower[i] -= GAMMA * GAMMA * lower[i];
    softmax(k, weight);
    for (long c = 0; c < k; c++) g_alpha[c] -= n * weight[c];
}
