#include "harness.h"

#include <stdbool.h>

#include "board.h"
#include "commands.h"
#include "reply.h"
#include "timestamp.h"

/* Limit of the protocol: a longer line is refused, never truncated. */
enum { COMMAND_SIZE = 80, TERMINATOR = '%' };

typedef struct {
    char text[COMMAND_SIZE];
    size_t length;
    bool damaged, too_long;
} command_line;

/* Reads up to the terminator. */
static void read_line(command_line *line) {
    line->length = 0;
    line->damaged = line->too_long = false;
    for (int c = board_getc(); c != TERMINATOR; c = board_getc()) {
        if (c == BOARD_RX_DAMAGED) {
            line->damaged = true;
        } else if (line->length == COMMAND_SIZE) {
            line->too_long = true;
        } else {
            line->text[line->length++] = (char)c;
        }
    }
}

static void answer(const command_line *line, const benchmark *bench) {
    if (line->damaged) {
        reply_error("Receive error: bytes were lost");
    } else if (line->too_long) {
        reply_error("Command exceeds 80 characters");
    } else {
        command_execute((text){line->text, line->length}, bench);
    }
    reply_line("m-ready");
}

/* Bytes received before the parser is on are discarded. */
static void send_prologue(void) {
    timestamp_announce();
    timestamp();
    reply_line("m-init-done");
    board_discard_input();
    reply_line("m-ready");
}

noreturn void harness_run(const benchmark *bench) {
    static command_line line;
    board_init();
    send_prologue();
    for (;;) {
        read_line(&line);
        answer(&line, bench);
    }
}
