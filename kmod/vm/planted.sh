# shellcheck shell=bash
# Bugs to plant into a copy of the module's sources, one at a time, to see that they are found. Sourced by torture.sh.

# each_planted COMMAND: COMMAND NAME KERNEL PATTERN STEP.. for each; PATTERN is what the kernel or the steps then say.
each_planted() {
    local find=$1
    "$find" sleep_in_hook debug61 'BUG: (sleeping function called from invalid context|scheduling while atomic)' brief
    "$find" use_after_free debug61 'BUG: KASAN: (slab-)?use-after-free in ' brief
    "$find" lock_order debug61 'possible circular locking dependency' brief
    "$find" lock_kept debug61 'BUG: (sleeping function called from invalid context|scheduling while atomic)|held lock freed|lock held when' brief
    "$find" walk_unlocked debug61 'suspicious RCU usage|kernel BUG at .*mmap_lock|WARNING:.*(mmap_lock|maple)' brief
    "$find" plain_store debug61 'kernel BUG at mm/page_table_check' brief
    "$find" overread debug61 'BUG: KASAN: .*out-of-bounds' FUZZ=5 fuzz_only
    "$find" leak_a_fault debug61 '^FAIL kmemleak' watch brief verdict
    # What only the memory's own check can see, and what the count of slab objects sees.
    "$find" forgets_dirty 6.1 'torture: .*WRONG' TORTURE=30 pressure_only
    "$find" grants_write 6.1 'torture: .*WRONG' TORTURE=10 brief
    "$find" leak_a_thread 6.1 '^FAIL no slab cache grew' leaks
}

# change FOLDER OLD NEW: OLD, which must stand once in all the sources, becomes NEW; && in NEW is OLD.
change() {
    python3 - "$@" <<'PYTHON' || die 2 "planted bugs: its place is gone, or not the only one: $2"
import pathlib
import sys
folder, old, new = sys.argv[1:]
texts = {path: path.read_text(encoding="utf-8") for path in pathlib.Path(folder).glob("*.c")}
if sum(text.count(old) for text in texts.values()) != 1:
    sys.exit(1)
for path, text in texts.items():
    if old in text:
        path.write_text(text.replace(old, new.replace("&&", old)), encoding="utf-8")
PYTHON
}

# plant NAME FROM TO: a copy of the sources with that bug.
plant() {
    local bug=$1 to=$3
    rm -rf "$to"
    mkdir -p "$to"
    cp "$2"/*.[ch] "$2"/Kbuild "$to"
    case $bug in
    sleep_in_hook)
        change "$to" '	if (t)
		on_fault(' '	if (t) {
		static DEFINE_MUTEX(planted);

		mutex_lock(&planted);
		mutex_unlock(&planted);
	}
	if (t)
		on_fault('
        ;;
    use_after_free)
        change "$to" '	kfree_rcu(t, rcu);' '	kfree(t);
	if (READ_ONCE(t->last_start) == 42)
		pr_info("planted\n");'
        ;;
    lock_order)
        change "$to" 'void pgt_on_fork(struct task_struct *parent, struct task_struct *child)
{' 'static DEFINE_SPINLOCK(planted_a);
static DEFINE_SPINLOCK(planted_b);

static void planted(spinlock_t *first, spinlock_t *second)
{
	spin_lock(first);
	spin_lock(second);
	spin_unlock(second);
	spin_unlock(first);
}

&&
	planted(&planted_a, &planted_b);'
        change "$to" 'void pgt_on_exit(struct task_struct *task)
{' '&&
	planted(&planted_b, &planted_a);'
        # Declarations stand first in this code, and the compiler is told to mind.
        printf 'ccflags-y += -Wno-declaration-after-statement\n' >>"$to/Kbuild"
        ;;
    lock_kept) change "$to" '	pte_unmap_unlock(start, ptl);' '	pte_unmap(start);' ;;
    walk_unlocked)
        change "$to" '	mmap_read_lock(mm);
	/* Others must flush' '	/* Others must flush'
        change "$to" '	mmap_read_unlock(mm);
	pass->end_ns' '	pass->end_ns'
        ;;
    plain_store)
        change "$to" 'old = ptep_get_and_clear(mm, addr, pte);' 'old = READ_ONCE(*pte);'
        change "$to" 'set_pte_at(mm, addr, pte, cleaned_pte(old));' 'WRITE_ONCE(*pte, cleaned_pte(old));'
        ;;
    overread) change "$to" 'simple_read_from_buffer(to, n, pos, text, len)' 'simple_read_from_buffer(to, n, pos, text, len + 8192)' ;;
    leak_a_fault)
        # Now and then: of one a fault there are so many that the kernel does not get through listing them.
        change "$to" '	if (t)
		on_fault(' '	if (t ? !(jiffies & 63) : 0)
		kmalloc(72, GFP_ATOMIC);
	if (t)
		on_fault('
        printf 'ccflags-y += -Wno-unused-result\n' >>"$to/Kbuild"
        ;;
    forgets_dirty) change "$to" '(_PAGE_PRESENT | _PAGE_USER | _PAGE_NX | _PAGE_GLOBAL)' '(_PAGE_PRESENT | _PAGE_USER | _PAGE_NX | _PAGE_GLOBAL | _PAGE_DIRTY)' ;;
    grants_write) # not to the zero page: the whole machine would go down with it
        change "$to" '	return __pte(cleaned(was, pte_val(old), PTE_PFN_MASK));' '	was = is_zero_pfn(pte_pfn(old)) ? 0 : _PAGE_RW;
	return __pte(cleaned(pte_val(old), pte_val(old), PTE_PFN_MASK) | was);'
        ;;
    leak_a_thread) change "$to" '	kfree_rcu(t, rcu);' '	/* planted: t is forgotten */' ;;
    *) die 2 "no planted bug is called $bug" ;;
    esac
}
