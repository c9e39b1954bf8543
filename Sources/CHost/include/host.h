// What has to work in a signal handler, or before anything else does. C, because neither the Swift runtime nor the
// allocator may be asked there.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Prepares the process: descriptors 0 to 2 that are closed are opened on /dev/null, so that no file gets their numbers
// (the wrong way round, so that reading and writing fail as they would on closed ones); signals that ask for an end are
// listened to, broken pipes become errors, and faults for want of memory are told in words.
//
// json: whether an end has to be told on standard output as well, as a JSON document.
void graft_prepare_process(int json);

// Requests to stop so far. With nothing held, a request ends the process at once and this is never seen.
int graft_stop_requests(void);
void graft_stop_request(void);
void graft_stop_clear(void);

// Counts what has to be saved or removed before the process may end.
void graft_stop_hold(int change);

// Standard output is in use: an end is no longer told there.
void graft_output_began(void);

// Starts a detached thread in which the signals that ask for an end are blocked; 0, or the error number. The body is
// called once if and only if 0 is returned.
int graft_start_thread(size_t stack_bytes, void (*body)(void *), void *context);

// Processors that the affinity mask of the calling thread allows; 0 where it cannot be read.
int graft_affinity_count(void);

// Says on standard error that `bytes` of memory could not be had, and ends the process with the status of I/O errors.
_Noreturn void graft_out_of_memory(size_t bytes);

// The limit of address space (ulimit -v) in bytes, or the smaller of it and that of data (ulimit -d); UINT64_MAX where
// there is none.
uint64_t graft_address_limit(int with_data);

// Whether so many bytes of address space could be had now.
int graft_can_reserve(size_t bytes);

// Bytes of address space in use, and of these the resident ones; 0 where the system does not tell.
uint64_t graft_address_use(uint64_t *resident);
