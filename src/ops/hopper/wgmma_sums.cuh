#pragma once
// A thread's sums as the operands of a wgmma instruction: an array `sums` of 32, 64 or 128 floats,
// which are operands 0, 1, ... of the asm statement.

#define SHOAL_EIGHT_SUMS(i)                                                                  \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define SHOAL_NAMES_128                                                          \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                       \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"             \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"             \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"             \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"             \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"             \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define SHOAL_SUMS_128                                                                        \
  SHOAL_EIGHT_SUMS(0), SHOAL_EIGHT_SUMS(8), SHOAL_EIGHT_SUMS(16), SHOAL_EIGHT_SUMS(24),       \
      SHOAL_EIGHT_SUMS(32), SHOAL_EIGHT_SUMS(40), SHOAL_EIGHT_SUMS(48), SHOAL_EIGHT_SUMS(56), \
      SHOAL_EIGHT_SUMS(64), SHOAL_EIGHT_SUMS(72), SHOAL_EIGHT_SUMS(80), SHOAL_EIGHT_SUMS(88), \
      SHOAL_EIGHT_SUMS(96), SHOAL_EIGHT_SUMS(104), SHOAL_EIGHT_SUMS(112), SHOAL_EIGHT_SUMS(120)
#define SHOAL_NAMES_64                                               \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define SHOAL_SUMS_64                                                                   \
  SHOAL_EIGHT_SUMS(0), SHOAL_EIGHT_SUMS(8), SHOAL_EIGHT_SUMS(16), SHOAL_EIGHT_SUMS(24), \
      SHOAL_EIGHT_SUMS(32), SHOAL_EIGHT_SUMS(40), SHOAL_EIGHT_SUMS(48), SHOAL_EIGHT_SUMS(56)
#define SHOAL_NAMES_32                                     \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define SHOAL_SUMS_32 \
  SHOAL_EIGHT_SUMS(0), SHOAL_EIGHT_SUMS(8), SHOAL_EIGHT_SUMS(16), SHOAL_EIGHT_SUMS(24)
