/* Gradient of the loss of a layered LSTM with diagonal weights over a text: the reverse sweep. */
#include <math.h>
#include <string.h>

static double sigmoid(double v) { return 1 / (1 + exp(-v)); }

/* `tape` holds (c - 1) (8 layers + 2) b numbers: of each layer its input, hidden and cell state before,
 * four gates and tanh of the cell, then the output and exp of the prediction. `work` holds 4 layers b + b. */
void lstm(const double *restrict weights, const double *restrict extra,
          const double *restrict hidden, const double *restrict cell,
          const double *restrict sequence, long layers, long b, long c, double *restrict tape,
          double *restrict work, double *restrict g_weights, double *restrict g_extra) {
    const long n = c - 1, state = layers * b;
    double *restrict h = work, *restrict s = h + state, *restrict g_h = s + state;
    double *restrict g_s = g_h + state, *restrict g_x = g_s + state;
    double *restrict at = tape;
    memcpy(h, hidden, state * sizeof *h);
    memcpy(s, cell, state * sizeof *s);
    for (long t = 0; t < n; t++) {
        double *in = at;
        for (long i = 0; i < b; i++) in[i] = sequence[t * b + i] * extra[i];
        for (long k = 0; k < layers; k++) {
            const double *restrict w = weights + k * 8 * b, *restrict bias = w + 4 * b;
            double *x = at, *restrict h_old = x + b, *restrict s_old = h_old + b;
            double *restrict f = s_old + b, *restrict g = f + b, *restrict o = g + b;
            double *restrict change = o + b, *restrict flat = change + b, *restrict out = flat + b;
            for (long i = 0; i < b; i++) {
                h_old[i] = h[k * b + i];
                s_old[i] = s[k * b + i];
                f[i] = sigmoid(x[i] * w[i] + bias[i]);
                g[i] = sigmoid(h_old[i] * w[b + i] + bias[b + i]);
                o[i] = sigmoid(x[i] * w[2 * b + i] + bias[2 * b + i]);
                change[i] = tanh(h_old[i] * w[3 * b + i] + bias[3 * b + i]);
                s[k * b + i] = s_old[i] * f[i] + g[i] * change[i];
                flat[i] = tanh(s[k * b + i]);
                out[i] = h[k * b + i] = o[i] * flat[i];
            }
            at = out;
        }
        for (long i = 0; i < b; i++) at[b + i] = exp(at[i] * extra[b + i] + extra[2 * b + i]);
        at += 2 * b;
    }

    memset(g_h, 0, 2 * state * sizeof *g_h);
    memset(g_weights, 0, layers * 8 * b * sizeof *g_weights);
    memset(g_extra, 0, 3 * b * sizeof *g_extra);
    for (long t = n - 1; t >= 0; t--) {
        const double *restrict e = at - b, *restrict out = at - 2 * b;
        const double *restrict target = sequence + (t + 1) * b;
        double sum = 2, total = 0;
        for (long i = 0; i < b; i++) {
            sum += e[i];
            total += target[i];
        }
        for (long i = 0; i < b; i++) {
            const double g_y = (total * e[i] / sum - target[i]) / (b * n);
            g_extra[b + i] += g_y * out[i];
            g_extra[2 * b + i] += g_y;
            g_x[i] = g_y * extra[b + i];
        }
        at -= 2 * b;
        for (long k = layers - 1; k >= 0; k--) {
            at -= 8 * b;
            const double *restrict w = weights + k * 8 * b;
            double *restrict g_w = g_weights + k * 8 * b, *restrict g_bias = g_w + 4 * b;
            const double *x = at, *restrict h_old = x + b, *restrict s_old = h_old + b;
            const double *restrict f = s_old + b, *restrict g = f + b, *restrict o = g + b;
            const double *restrict change = o + b, *restrict flat = change + b;
            double *restrict g_hk = g_h + k * b, *restrict g_sk = g_s + k * b;
            for (long i = 0; i < b; i++) {
                const double g_out = g_hk[i] + g_x[i];
                const double g_new = g_sk[i] + g_out * o[i] * (1 - flat[i] * flat[i]);
                const double v_f = g_new * s_old[i] * f[i] * (1 - f[i]);
                const double v_g = g_new * change[i] * g[i] * (1 - g[i]);
                const double v_o = g_out * flat[i] * o[i] * (1 - o[i]);
                const double v_c = g_new * g[i] * (1 - change[i] * change[i]);
                g_w[i] += v_f * x[i];
                g_w[b + i] += v_g * h_old[i];
                g_w[2 * b + i] += v_o * x[i];
                g_w[3 * b + i] += v_c * h_old[i];
                g_bias[i] += v_f;
                g_bias[b + i] += v_g;
                g_bias[2 * b + i] += v_o;
                g_bias[3 * b + i] += v_c;
                g_sk[i] = g_new * f[i];
                g_hk[i] = v_g * w[b + i] + v_c * w[3 * b + i];
                g_x[i] = v_f * w[i] + v_o * w[2 * b + i];
            }
        }
        for (long i = 0; i < b; i++) g_extra[i] += g_x[i] * sequence[t * b + i];
    }
}
