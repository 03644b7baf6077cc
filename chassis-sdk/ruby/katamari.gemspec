# frozen_string_literal: true

require_relative 'lib/katamari/version'

Gem::Specification.new do |gem|
  gem.name = 'katamari'
  gem.version = Katamari::VERSION
  gem.summary = 'Serves a Thrift handler as a chassis of a Katamari mesh.'
  gem.description = 'Runs a Ruby handler object as one process of a Katamari mesh. The mesh launches, pools, calls, drains and ' \
                    'replaces the process.'
  gem.authors = ['Katamari']
  gem.license = 'Apache-2.0'
  gem.required_ruby_version = '>= 2.7'
  gem.files = Dir.chdir(__dir__) { Dir['lib/**/*.rb', 'README.md'] }
  gem.add_dependency 'thrift', '>= 0.14', '< 1'
end
