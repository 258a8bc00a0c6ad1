/* An LSTM cell of ROWS x COLS from its four sums on (input, forget, cell, output), and its gradients. */
#include <math.h>

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

void gates(const float *restrict z, const float *restrict c, const float *restrict gh,
           const float *restrict gc, float *restrict h, float *restrict new, float *restrict dz,
           float *restrict dc)
{
    for (int r = 0; r < ROWS; r++) {
        const float *zi = z + 4 * r * COLS;
        float *di = dz + 4 * r * COLS;
        for (int j = 0; j < COLS; j++) {
            const int at = r * COLS + j;
            const float i = sigmoid(zi[j]), f = sigmoid(zi[COLS + j]);
            const float a = tanhf(zi[2 * COLS + j]), o = sigmoid(zi[3 * COLS + j]);
            const float n = f * c[at] + i * a, t = tanhf(n);
            const float d = gc[at] + gh[at] * o * (1.0f - t * t);
            h[at] = o * t;
            new[at] = n;
            di[j] = d * a * i * (1.0f - i);
            di[COLS + j] = d * c[at] * f * (1.0f - f);
            di[2 * COLS + j] = d * i * (1.0f - a * a);
            di[3 * COLS + j] = gh[at] * t * o * (1.0f - o);
            dc[at] = d * f;
        }
    }
}
