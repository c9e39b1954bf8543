#include <cblas.h>
#include <stddef.h>

// LAPACK's symmetric eigenvectors, which OpenBLAS carries; Fortran's calling convention, lengths of strings at the end.
extern void dsyevr_(const char *jobz, const char *range, const char *uplo, const int *n, double *a, const int *lda,
                    const double *vl, const double *vu, const int *il, const int *iu, const double *abstol, int *m,
                    double *w, double *z, const int *ldz, int *isuppz, double *work, const int *lwork, int *iwork,
                    const int *liwork, int *info, size_t, size_t, size_t);
