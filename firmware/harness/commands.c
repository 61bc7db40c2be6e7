#include "commands.h"

#include "board.h"
#include "infer.h"
#include "input_buffer.h"
#include "reply.h"
#include "timestamp.h"

static const char firmware_version[] = "ULPMark for tinyML Firmware V0.0.1";

static void answer_name(text arguments, const benchmark *bench) {
    (void)arguments;
    (void)bench;
    reply_text("m-name-dut-[");
    reply_text(board_name);
    reply_line("]");
}

static void answer_timestamp(text arguments, const benchmark *bench) {
    (void)arguments;
    (void)bench;
    timestamp();
}

static void answer_profile(text arguments, const benchmark *bench) {
    (void)arguments;
    reply_text("m-profile-[");
    reply_text(firmware_version);
    reply_line("]");
    reply_text("m-model-[");
    reply_text(bench->model);
    reply_line("]");
}

static void answer_help(text arguments, const benchmark *bench) {
    (void)arguments;
    (void)bench;
    reply_line(firmware_version);
    reply_line("");
    reply_line("help          : Show this text");
    reply_line("name          : Show the name of the board");
    reply_line("profile       : Show firmware and model");
    reply_line("timestamp     : Give a timestamp");
    reply_line("db load N     : Expect an input of N bytes");
    reply_line("db HH[HH]*    : Load bytes, two hex digits each, until there are N");
    reply_line("db print      : Show the loaded bytes");
    reply_line("infer [N [W]] : Run W warm-up and N timed inferences (N=1, W=10)");
    reply_line("results       : Show the output of the last inference");
}

static const struct {
    const char *name;
    void (*answer)(text arguments, const benchmark *bench);
} commands[] = {
    {"name", answer_name}, {"timestamp", answer_timestamp}, {"profile", answer_profile},
    {"help", answer_help}, {"db", input_buffer_command},    {"infer", infer_command},
    {"results", infer_results_command},
};

void command_execute(text line, const benchmark *bench) {
    const text name = text_token(&line);
    if (name.length == 0) {
        reply_error("Empty command");
        return;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (text_equals(name, commands[i].name)) {
            commands[i].answer(line, bench);
            return;
        }
    }
    reply_text("e-[Unknown command: ");
    reply_echo(name);
    reply_line("]");
}
