/* Timestamps as the build gives them: a line with microseconds, or an edge for the bench. */
#ifndef LABD_TIMESTAMP_H
#define LABD_TIMESTAMP_H

/* Sends the mode line of the prologue. */
void timestamp_announce(void);

/* Marks this moment. */
void timestamp(void);

#endif
