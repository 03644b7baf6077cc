// The method that every contender implements: it returns its argument.

service Echo {
  string echo(1: string value) (katamari.idempotent = "true")
}
