// Two ways in, and one from there: long mode, the first 4 GiB mapped one to one, a stack.

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                  // name, value, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad payload_entry_32

    .section .text.entry, "ax"
// Protected mode without paging; hvm_start_info in EBX (Xen, docs/misc/pvh.pandoc).
    .code32
    .globl payload_entry_32
payload_entry_32:
    cli
    cld
    movl $page_tables, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax                 // PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx          // EFER
    rdmsr
    orl $0x100, %eax                // LME
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax           // PG, PE
    movl %eax, %cr0
    lgdt descriptors_pointer
    ljmp $8, $from_32
    .code64
from_32:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movl %ebx, %esi
    movl $32, %edi
    jmp common

// Long mode already; boot_params in RSI (Linux, Documentation/arch/x86/boot.rst).
    .globl payload_entry_64
payload_entry_64:
    cli
    cld
    movl $page_tables, %eax
    movq %rax, %cr3
    movl $64, %edi
common:
    movl $stack_end, %esp
    xorl %ebp, %ebp
    call payload_main
    ud2

// What the compiler takes for granted.
    .text
    .globl memcpy
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    rep movsb
    ret
    .globl memmove
memmove:
    movq %rdi, %rax
    movq %rdx, %rcx
    movq %rdi, %rdx
    subq %rsi, %rdx
    cmpq %rcx, %rdx
    jb 1f
    rep movsb
    ret
1:  leaq -1(%rdi,%rcx), %rdi
    leaq -1(%rsi,%rcx), %rsi
    std
    rep movsb
    cld
    ret
    .globl memset
memset:
    movq %rdi, %r8
    movl %esi, %eax
    movq %rdx, %rcx
    rep stosb
    movq %r8, %rax
    ret
    .globl memcmp
    .globl bcmp
memcmp:
bcmp:
    movq %rdx, %rcx
    xorl %eax, %eax
    cmpq %rax, %rcx
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
1:  ret
    .globl rust_eh_personality
rust_eh_personality:
    ud2

    .section .data.tables, "aw"
    .balign 4096
page_tables:
    .quad pointers + 3
    .fill 511, 8, 0
pointers:
    .quad directories + 3, directories + 0x1003, directories + 0x2003, directories + 0x3003
    .fill 508, 8, 0
directories:
    .set address, 0
    .rept 2048
    .quad address + 0xe3            // 2 MiB, dirty, accessed, writable, present
    .set address, address + 0x200000
    .endr
descriptors:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
descriptors_pointer:
    .word 23
    .long descriptors

    .section .bss.stack, "aw", @nobits
    .balign 16
    .fill 0x40000, 1, 0
stack_end:
