#include <oniguruma.h>

// Macros that Swift cannot import.
static inline OnigEncoding graft_onig_utf8(void) { return ONIG_ENCODING_UTF8; }
static inline OnigSyntaxType *graft_onig_syntax(void) { return ONIG_SYNTAX_ONIGURUMA; }
static inline OnigSyntaxType *graft_onig_python_syntax(void) { return ONIG_SYNTAX_PYTHON; }
static inline int graft_onig_is_class(OnigCodePoint code, OnigCtype ctype) {
    return ONIGENC_IS_CODE_CTYPE(ONIG_ENCODING_UTF8, code, ctype);
}
// A variadic function in C; `message` must hold ONIG_MAX_ERROR_MESSAGE_LEN bytes.
static inline int graft_onig_error_text(OnigUChar *message, int code, OnigErrorInfo *info) {
    return info ? onig_error_code_to_str(message, code, info) : onig_error_code_to_str(message, code);
}
static const int graft_onig_error_text_size = ONIG_MAX_ERROR_MESSAGE_LEN;
