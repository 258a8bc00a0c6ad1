/* The derivative of x * x. */
void hello(const double *restrict x, double *restrict gradient) { gradient[0] = 2 * x[0]; }
