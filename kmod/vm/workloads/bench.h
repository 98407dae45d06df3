/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the measuring programs share. They run in a virtual machine whose clock
 * counts instructions (run.sh --icount: one CPU, one tick of its time-stamp
 * counter an instruction), so a difference of two readings is the number of
 * instructions that the machine, user and kernel, has executed in between.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stddef.h>

#define PAGE 4096UL
#define DEBUGFS "/sys/kernel/debug/pgtrace"

/* Instructions since the machine's start. The fence keeps what is measured on its side. */
static inline uint64_t instructions(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return low | (uint64_t)high << 32;
}

/* One byte of a page; the compiler neither drops nor moves it. */
static inline void write_page(char *at) { *(volatile char *)at = 1; }
static inline void read_page(const char *at) { (void)*(const volatile char *)at; }

/* bench.c: what may fail here is a mistake of the measurement; it ends the program with its reason. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
void write_file(const char *path, const char *text);
int try_control(const char *command);		/* 0 or errno */
__attribute__((format(printf, 1, 2))) void control(const char *format, ...);
uint64_t status(const char *key);		/* a number of the module's status; summed over CPUs for fields of "cpu" lines */
char *memory(size_t pages);			/* anonymous, no page present */
void pause_ms(unsigned int ms);
void load_module(const char *options);
void unload_module(void);
/* One figure of one repetition: the reports take the median. */
void figure(const char *what, const char *how, double value);

#define REPEAT 3	/* times each figure is taken */

/* bench-hooks.c */
int run_matrix(void);
int run_faults(const char *kind);
int run_cleaner(void);
int run_fifo(void);

/* bench-load.c */
int run_slowdown(int argc, char **argv);
int run_program(int argc, char **argv);

#endif
