/* logsumexp of ROWS rows of COLS, and its gradient for the cotangent g. */
#include <math.h>

void logsumexp(const float *restrict x, const float *restrict g, float *restrict y,
               float *restrict dx)
{
    for (int i = 0; i < ROWS; i++) {
        const float *xi = x + i * COLS;
        float *di = dx + i * COLS;
        float top = xi[0], sum = 0;
        for (int j = 1; j < COLS; j++)
            top = xi[j] > top ? xi[j] : top;
        for (int j = 0; j < COLS; j++)
            sum += di[j] = expf(xi[j] - top);
        const float scale = g[i] / sum;
        for (int j = 0; j < COLS; j++)
            di[j] *= scale;
        y[i] = logf(sum) + top;
    }
}
