/**
 * Calculator: whole-number arithmetic. On the wire this is the service of the Apache Thrift tutorial, so a tutorial
 * client in any language can call it unchanged.
 */
include "shared.thrift"

namespace * tutorial

typedef i32 MyInteger

const i32 INT32CONSTANT = 9853
const map<string, string> MAPCONSTANT = {'hello': 'world', 'goodnight': 'moon'}

/** What to do with the two numbers. */
enum Operation {
  ADD = 1
  SUBTRACT = 2
  MULTIPLY = 3
  /** Rounds towards zero: -7 / 2 is -3. */
  DIVIDE = 4
}

/** One calculation. */
struct Work {
  /** The left number. */
  1: i32 num1 = 0
  /** The right number. */
  2: i32 num2
  3: Operation op
  /** For people who read the request; the calculator ignores it. */
  4: optional string comment
}

/** The calculation has no answer: a division by zero, an unknown operation, a result that does not fit an i32. */
exception InvalidOperation {
  /** Number of the operation that was asked for. */
  1: i32 whatOp
  /** What is wrong with it, for people. */
  2: string why
}

/** Whole-number arithmetic with results that fit an i32. */
service Calculator extends shared.SharedService {
  /** Does nothing, and answers: a call to try first. */
  void ping() (katamari.readonly = "true")

  /** num1 + num2. A sum that does not fit an i32 is an error, never a wrapped number. */
  i32 add(1: i32 num1, 2: i32 num2) (katamari.readonly = "true")

  /**
   * Works out `w` and logs the result under `logid`, for `getStruct`. The same work under the same id may safely be
   * sent again.
   */
  i32 calculate(1: i32 logid, 2: Work w) throws (1: InvalidOperation ouch) (katamari.idempotent = "true")

  /** A oneway method: the client does not wait, and no answer is ever sent. */
  oneway void zip()
}
