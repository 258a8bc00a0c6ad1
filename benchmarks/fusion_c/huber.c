/* Mean Huber loss (delta 1) of ROWS x COLS differences, and its gradient: one pass. */
#include <math.h>

void huber(const float *restrict x, const float *restrict y, float *restrict loss,
           float *restrict dx)
{
    float total = 0;
    for (int i = 0; i < ROWS * COLS; i++) {
        const float d = x[i] - y[i], a = fabsf(d);
        const float c = d > 1.0f ? 1.0f : d < -1.0f ? -1.0f : d;
        total += a < 1.0f ? 0.5f * d * d : a - 0.5f;
        dx[i] = c * (1.0f / (ROWS * COLS));
    }
    *loss = total / (ROWS * COLS);
}
