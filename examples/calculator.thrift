/**
 * Calculator: integer arithmetic. Its wire format is that of the Apache Thrift tutorial, so a tutorial client in any
 * language can call it unchanged.
 */
include "shared.thrift"

namespace * tutorial

typedef i32 MyInteger

const i32 INT32CONSTANT = 9853
const map<string, string> MAPCONSTANT = {'hello': 'world', 'goodnight': 'moon'}

/** The operation. */
enum Operation {
  ADD = 1
  SUBTRACT = 2
  MULTIPLY = 3
  /** Rounds toward zero: -7 / 2 is -3. */
  DIVIDE = 4
}

/** One calculation. */
struct Work {
  /** The left number. */
  1: i32 num1 = 0
  /** The right number. */
  2: i32 num2
  3: Operation op
  /** A comment for readers of the request; the calculator ignores it. */
  4: optional string comment
}

/** The calculation has no result: a division by zero, an unknown operation, or a result that does not fit an i32. */
exception InvalidOperation {
  /** The requested operation. */
  1: i32 whatOp
  /** Why there is no result. */
  2: string why
}

/** Integer arithmetic with results that fit an i32. */
service Calculator extends shared.SharedService {
  /** Does nothing and returns. Useful as a first call. */
  void ping() (katamari.readonly = "true")

  /** Returns num1 + num2. A sum that does not fit an i32 is an error; it never wraps. */
  i32 add(1: i32 num1, 2: i32 num2) (katamari.readonly = "true")

  /** Calculates `w` and logs the result under `logid`, for `getStruct`. The call is idempotent. */
  i32 calculate(1: i32 logid, 2: Work w) throws (1: InvalidOperation ouch) (katamari.idempotent = "true")

  /** A oneway method: the client does not wait, and there is no reply. */
  oneway void zip()
}
