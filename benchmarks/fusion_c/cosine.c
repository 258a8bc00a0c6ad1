/* Cosine similarity of ROWS pairs of rows, and its gradients for the cotangent g: two passes over a row. */
#include <math.h>

void cosine(const float *restrict x, const float *restrict y, const float *restrict g,
            float *restrict c, float *restrict dx, float *restrict dy)
{
    for (int i = 0; i < ROWS; i++) {
        const float *xi = x + i * COLS, *yi = y + i * COLS;
        float xy = 0, xx = 0, yy = 0;
        for (int j = 0; j < COLS; j++) {
            xy += xi[j] * yi[j];
            xx += xi[j] * xi[j];
            yy += yi[j] * yi[j];
        }
        const float r = 1.0f / sqrtf(xx * yy);
        c[i] = xy * r;
        const float across = g[i] * r, along = g[i] * xy * r;
        const float x_part = along / xx, y_part = along / yy;
        for (int j = 0; j < COLS; j++) {
            dx[i * COLS + j] = across * yi[j] - x_part * xi[j];
            dy[i * COLS + j] = across * xi[j] - y_part * yi[j];
        }
    }
}
