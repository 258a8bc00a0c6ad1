/* Layer norm of ROWS x COLS and its gradients for the cotangent g. */
#include <math.h>

void layer_norm(const float *restrict x, const float *restrict w, const float *restrict b,
                const float *restrict g, float *restrict y, float *restrict dx, float *restrict dw,
                float *restrict db)
{
    for (int j = 0; j < COLS; j++)
        dw[j] = db[j] = 0;
    for (int i = 0; i < ROWS; i++) {
        const float *xi = x + i * COLS, *gi = g + i * COLS;
        float *yi = y + i * COLS, *di = dx + i * COLS;
        float mean = 0, var = 0, s = 0, t = 0;
        for (int j = 0; j < COLS; j++)
            mean += xi[j];
        mean /= COLS;
        for (int j = 0; j < COLS; j++)
            var += (xi[j] - mean) * (xi[j] - mean);
        const float r = 1.0f / sqrtf(var / COLS + 1e-5f);
        for (int j = 0; j < COLS; j++) {
            const float h = (xi[j] - mean) * r, gw = gi[j] * w[j];
            yi[j] = h * w[j] + b[j];
            dw[j] += gi[j] * h;
            db[j] += gi[j];
            s += gw;
            t += gw * h;
        }
        s /= COLS;
        t /= COLS;
        for (int j = 0; j < COLS; j++)
            di[j] = r * (gi[j] * w[j] - s - (xi[j] - mean) * r * t);
    }
}
