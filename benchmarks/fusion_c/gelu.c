/* GELU of ROWS x COLS sums with a bias, and its gradients for the cotangent g: one pass. */
#include <math.h>

void gelu(const float *restrict x, const float *restrict b, const float *restrict g,
          float *restrict y, float *restrict dx, float *restrict db)
{
    for (int j = 0; j < COLS; j++)
        db[j] = 0;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            const float u = x[i * COLS + j] + b[j];
            const float p = 0.5f * (1.0f + erff(u * 0.70710678f));
            const float d = g[i * COLS + j] * (p + u * 0.39894228f * expf(-0.5f * u * u));
            y[i * COLS + j] = u * p;
            dx[i * COLS + j] = d;
            db[j] += d;
        }
}
