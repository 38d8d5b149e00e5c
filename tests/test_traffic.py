"""The count of a program's bytes, of a text whose bytes are counted by hand."""

from benchmarks import traffic

PROGRAM = """\
HloModule step

%fused (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  ROOT %negate.1 = f32[8]{0} negate(%param_0)
}

%body (state: (s32[], bf16[16], bf16[5,16])) -> (s32[], bf16[16], bf16[5,16]) {
  %state = (s32[], bf16[16]{0}, bf16[5,16]{1,0}) parameter(0)
  %item = bf16[16]{0} get-tuple-element(%state), index=1
  %count = s32[] get-tuple-element(%state), index=0
  %stacked = bf16[5,16]{1,0} get-tuple-element(%state), index=2
  %sum.1 = bf16[16]{0:T(128)S(1)} fusion(%item, %stacked, %count), kind=kLoop, calls=%fused
  ROOT %both = (s32[], bf16[16]{0}, bf16[5,16]{1,0}) tuple(%count, %sum.1, %stacked)
}

%condition (state.1: (s32[], bf16[16], bf16[5,16])) -> pred[] {
  %state.1 = (s32[], bf16[16]{0}, bf16[5,16]{1,0}) parameter(0)
  %count.1 = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%count.1, %limit), direction=LT
}

ENTRY %main (a: f32[8], b: (s32[], bf16[16], bf16[5,16])) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %b = (s32[], bf16[16]{0}, bf16[5,16]{1,0}) parameter(1)
  %copy-start.1 = (f32[8]{0:S(1)}, f32[8]{0}, u32[]{:S(2)}) copy-start(%a)
  %copy-done.1 = f32[8]{0:S(1)} copy-done(%copy-start.1)
  %slice-start.1 = ((f32[8]{0}), f32[2]{0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2]}
  %slice-done.1 = f32[2]{0:S(1)} slice-done(%slice-start.1)
  %joined = f32[8]{0:S(1)} custom-call(%slice-done.1), custom_call_target="ConcatBitcast"
  %loop = (s32[], bf16[16]{0}, bf16[5,16]{1,0}) while(%b), condition=%condition, body=%body
  %sum = f32[8]{0} all-reduce(%a), to_apply=%fused
  %permute = (f32[8]{0}, f32[8]{0}, u32[]) collective-permute-start(%a)
  %permuted = f32[8]{0} collective-permute-done(%permute)
  ROOT %fusion.1 = f32[8]{0} fusion(%copy-done.1), kind=kLoop, calls=%fused
}
"""


def test_counts_what_each_instruction_reads_and_writes():
    found = traffic.count(PROGRAM)
    copies = 2 * 32 + 2 * 8
    loop = 5 * (3 * 32 + 4)  # The counter is read, too, and a fifth of what is stacked.
    collectives = 2 * (32 + 32)
    fusion = 32 + 32
    assert found.moved == copies + loop + collectives + fusion


def test_memory_is_without_what_lies_on_the_chip():
    found = traffic.count(PROGRAM)
    assert found.memory == (32 + 8) + 5 * (2 * 32 + 4) + 2 * (32 + 32) + 32


def test_exchanged_is_the_result_of_collectives():
    assert traffic.count(PROGRAM).exchanged == 32 + 32
