#include "infer.h"

#include "board.h"
#include "input_buffer.h"
#include "reply.h"
#include "timestamp.h"

static bool has_results;

static void send_results(const benchmark *bench) {
    reply_text("m-results-[");
    for (size_t i = 0; i < bench->result_count; i++) {
        if (i > 0) {
            reply_text(",");
        }
        reply_thousandths(bench->result(i));
    }
    reply_line("]");
}

static void send_count(const char *prefix, uint32_t count) {
    reply_text(prefix);
    reply_unsigned(count);
    reply_end();
}

static void repeat(const benchmark *bench, uint32_t count) {
    while (count-- > 0) {
        bench->infer();
    }
}

/* The processing pin is high around both timestamps: a second clock can check the window. */
static void infer(const benchmark *bench, uint32_t iterations, uint32_t warmup) {
    bench->load(bench->buffer);
    send_count("m-warmup-start-", warmup);
    repeat(bench, warmup);
    reply_line("m-warmup-done");
    send_count("m-infer-start-", iterations);
    board_set_processing(true);
    timestamp();
    repeat(bench, iterations);
    timestamp();
    board_set_processing(false);
    has_results = true;
    reply_line("m-infer-done");
    send_results(bench);
}

/* An absent argument keeps the default; a number below `least` gets the error `malformed` too. */
static bool parse_count(text token, uint32_t least, const char *malformed, const char *too_large,
                        uint32_t *count) {
    if (token.length == 0) {
        return true;
    }
    const number_status status = text_number(token, count);
    if (status == NUMBER_TOO_LARGE) {
        reply_error(too_large);
        return false;
    }
    if (status == NUMBER_MALFORMED || *count < least) {
        reply_error(malformed);
        return false;
    }
    return true;
}

void infer_command(text arguments, const benchmark *bench) {
    uint32_t iterations = 1, warmup = 10;
    const text first = text_token(&arguments), second = text_token(&arguments);
    if (!parse_count(first, 1, "Inference iterations must be >0",
                     "Inference iterations exceed 32 bits", &iterations) ||
        !parse_count(second, 0, "Inference warmup must be >=0", "Inference warmup exceeds 32 bits",
                     &warmup)) {
        return;
    }
    if (!input_buffer_ready(bench)) {
        reply_error("Inference refused: load one complete input first");
        return;
    }
    infer(bench, iterations, warmup);
}

void infer_results_command(text arguments, const benchmark *bench) {
    (void)arguments;
    if (!has_results) {
        reply_error("No results: run 'infer' first");
        return;
    }
    send_results(bench);
}
