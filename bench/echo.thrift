// What every contender does: hand back what it was given.

service Echo {
  string echo(1: string value) (katamari.idempotent = "true")
}
