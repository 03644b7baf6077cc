# frozen_string_literal: true

# The version of this gem.
module Katamari
  VERSION = '0.1.0'
end
