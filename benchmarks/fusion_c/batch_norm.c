/* Batch norm of ROWS x COLS (statistics of columns) and its gradients for the cotangent g. */
#include <math.h>

void batch_norm(const float *restrict x, const float *restrict w, const float *restrict b,
                const float *restrict g, float *restrict y, float *restrict dx, float *restrict dw,
                float *restrict db)
{
    float mean[COLS], r[COLS];
    for (int j = 0; j < COLS; j++)
        mean[j] = r[j] = dw[j] = db[j] = 0;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++)
            mean[j] += x[i * COLS + j];
    for (int j = 0; j < COLS; j++)
        mean[j] /= ROWS;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            const float d = x[i * COLS + j] - mean[j];
            r[j] += d * d;
        }
    for (int j = 0; j < COLS; j++)
        r[j] = 1.0f / sqrtf(r[j] / ROWS + 1e-5f);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            const float h = (x[i * COLS + j] - mean[j]) * r[j], gij = g[i * COLS + j];
            y[i * COLS + j] = h * w[j] + b[j];
            dw[j] += gij * h;
            db[j] += gij;
        }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            const float h = (x[i * COLS + j] - mean[j]) * r[j];
            const float rest = db[j] + h * dw[j];
            dx[i * COLS + j] = w[j] * r[j] * (g[i * COLS + j] - rest * (1.0f / ROWS));
        }
}
