# The guest of `pileus.host.kvm`: a boot sector that does what every operating system's start does and software back ends of KVM get wrong: page tables,
# long mode, an address space switch, CPUID, an exception taken through a gate. Then it writes 0x10 to port 0xf4, where `isa-debug-exit` ends QEMU with
# exit code 33. Bytes in kvm.py: as --64 -o probe.o kvm_probe.s && ld -Ttext 0 -e 0 --oformat binary -o probe.bin probe.o
.code16
.org 0
start:
    cli
    xorw %ax,%ax
    movw %ax,%ds
    movw %ax,%es
    movw %ax,%ss
    movw $0x7000,%sp
    # page tables at 0x1000..0x3fff
    movw $0x1000,%di
    movw $0x1800,%cx
    cld
    rep stosw
    movw $0x2003,0x1000
    movw $0x3003,0x2000
    movw $0x0083,0x3000
    lgdt gdtr + 0x7c00
    movl $0x20,%eax
    movl %eax,%cr4
    movl $0x1000,%eax
    movl %eax,%cr3
    movl $0xc0000080,%ecx
    rdmsr
    orl $0x100,%eax
    wrmsr
    movl %cr0,%eax
    orl $0x80000001,%eax
    movl %eax,%cr0
    ljmp $8,$(long + 0x7c00)
.code64
long:
    movw $16,%ax
    movw %ax,%ds
    movw %ax,%ss
    movl $0x7000,%esp
    # an interrupt gate for #UD (vector 6) at 0x4060, then fall into it
    movl $(handler + 0x7c00),%eax
    movw %ax,0x4060
    movl $0x8e000008,0x4062
    movw $0,0x4066
    movl $0,0x4068
    lidt idtr + 0x7c00
    movq %cr3,%rax
    movq %rax,%cr3
    xorl %eax,%eax
    cpuid
    ud2
hang:
    hlt
    jmp hang
handler:
    addq $2,(%rsp)
    movb $0x10,%al
    outb %al,$0xf4
    jmp hang
.balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000
    .quad 0x0000920000000000
gdtr:
    .word 23
    .long gdt + 0x7c00
idtr:
    .word 0x7f
    .quad 0x4000
.org 510
    .word 0xaa55
